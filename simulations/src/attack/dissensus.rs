//! `dissensus`: pulls every receiver away from its honest neighbours, each in its own direction.
//!
//! To receiver i: xᵢ − ε · Σⱼ Wᵢⱼ (xⱼ − xᵢ) / Σₖ Wᵢₖ, j over its honest neighbours and k over the
//! liars among them. Under plain gossip ε = 1 undoes all mixing and i stays where it was; above,
//! the neighbourhood drifts apart. No receiver's vector looks odd to it, but they differ: two
//! receivers that hear each other have the proof. So it lasts only if the liar's neighbours are not
//! neighbours of each other, as on a ring. Other liars get the trained vector.
//!
//! If it is not omniscient, it takes itself for the only liar and counts the neighbours that it
//! hears.

use std::collections::BTreeMap;

use kith_consensus::{Section, Stream};
use kith_gossip::Publication;

use super::{Attack, AttackEntry, AttackKind, Knowledge, Means, Scene};

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "dissensus",
    help: "sends each receiver a vector that undoes its mixing, `epsilon` times over",
    source: "He, Karimireddy and Jaggi, ClippedGossip, 2022",
    main_key: Some("epsilon"),
    // 1.5: the paper's runs.
    new: AttackKind {
        knowledge: Knowledge::Omniscient,
        means: Means::Updates,
        build: |section: &mut Section<'_>| {
            Box::new(Dissensus {
                epsilon: section.number("epsilon", Some(1.5), 0.0..=1e6),
            })
        },
    },
};

#[derive(Debug)]
struct Dissensus {
    epsilon: f64,
}

impl Attack for Dissensus {
    fn publish(&mut self, scene: &Scene<'_>, _random: &mut Stream) -> Publication {
        let view = scene.view;
        let Ok(own) = view.roster.binary_search(&view.own) else {
            return Publication::Same(view.trained.to_vec());
        };
        let rows: BTreeMap<usize, &[f32]> = scene
            .honest
            .iter()
            .filter_map(|(peer, row)| Some((view.roster.binary_search(peer).ok()?, *row)))
            .filter(|(peer, _)| *peer != own)
            .collect();
        let tell = |target: &usize| {
            let vector = rows.get(target).map_or_else(
                || view.trained.to_vec(),
                |at| self.against(scene, own, *target, at, &rows),
            );
            (view.roster[*target], vector)
        };
        Publication::Each(view.graph.sends_to(own).iter().map(tell).collect())
    }
}

impl Dissensus {
    fn against(
        &self,
        scene: &Scene<'_>,
        own: usize,
        target: usize,
        at: &[f32],
        rows: &BTreeMap<usize, &[f32]>,
    ) -> Vec<f32> {
        let graph = scene.view.graph;
        let neighbours = graph.receives_from(target);
        let weight = |peer: usize| graph.mixing_weight(target, peer);
        let lies = |peer: &usize| *peer == own || (scene.omniscient && !rows.contains_key(peer));
        let liars: f64 = neighbours.iter().copied().filter(lies).map(weight).sum();
        let honest: Vec<(f64, &[f32])> = neighbours
            .iter()
            .filter_map(|peer| Some((weight(*peer), *rows.get(peer)?)))
            .collect();
        let away = |(index, value): (usize, &f32)| {
            let at = f64::from(*value);
            let pull: f64 = honest
                .iter()
                .map(|(weight, row)| weight * (f64::from(row[index]) - at))
                .sum();
            (at - self.epsilon * pull / liars) as f32
        };
        at.iter().enumerate().map(away).collect()
    }
}

//! The main job without sockets: eight peers, two of them lying, on the embedded digits, in four cells over five seeds.

use std::sync::Arc;
use std::time::Duration;

use kith_consensus::charter::Charter;
use kith_consensus::section::Document;
use kith_consensus::{PeerId, Section, Seed};
use kith_gossip::codec::codec_from_section;
use kith_gossip::{Authenticator, Conduct, Event, Honest, Setup};
use kith_models::partition::{Partition, Rows};
use kith_models::{DATASETS, DatasetOptions, ModelSection, Schema, Task, TrainingSection};
use kith_simulations::attack::attack_from_text;
use kith_simulations::learner::Learner;
use kith_simulations::memory::{Federation, Participant, Weather};

const PEERS: usize = 8;
const CODEC: &str = "kind = \"top-k\"\nshare = 0.06\n";

fn secret(seed: u64, index: usize) -> [u8; 32] {
    Seed::from_number(seed).child(&format!("key {index}")).0
}

struct Outcome {
    accuracy_mean: f64,
    accuracy_min: f64,
    /// Payload and keyframe bytes over the bytes of the same deliveries uncompressed.
    share_of_dense: f64,
}

fn run(seed: u64, attacked: bool, defended: bool) -> Outcome {
    let digits = DATASETS.iter().find(|entry| entry.name == "digits").expect("digits are embedded");
    let keys: Vec<PeerId> = (0..PEERS).map(|index| Authenticator::from_secret(&secret(seed, index)).peer()).collect();
    let members: String = keys
        .iter()
        .enumerate()
        .map(|(index, key)| format!("[[membership.member]]\nname = \"n{index}\"\norganisation = \"o{index}\"\nkey = \"{key}\"\n"))
        .collect();
    let rule = if defended { "rule = \"nnm+trimmed-mean\"\nbyzantine = 2" } else { "rule = \"mean\"" };
    let text = format!(
        "[federation]\nname = \"digits\"\nrounds = 30\ntestnet = true\nseed = {seed}\n{}\n[topology]\nkind = \"random-regular\"\n\
         degree = 5\nseed = {seed}\n[aggregation]\n{rule}\n[codec]\n{CODEC}{members}",
        digits.defaults
    );
    let (mut schema, mut model, mut training) = (None, None, None);
    let charter = Charter::resolve(
        &text,
        &mut [
            ("data", &mut |section: &mut Section<'_>| schema = Some(Schema::read(section))),
            ("model", &mut |section: &mut Section<'_>| model = Some(ModelSection::read(section))),
            ("training", &mut |section: &mut Section<'_>| training = Some(TrainingSection::read(section))),
            ("codec", &mut |section: &mut Section<'_>| drop(codec_from_section(section))),
        ],
    )
    .expect("the default charter is good");
    let task = Task::new(schema.expect("read"), model.expect("read"), training.expect("read")).expect("the defaults fit");
    let loaded = (digits.load)(&DatasetOptions::default()).expect("embedded");
    let all = loaded.dataset(task.schema()).expect("fits");
    let root = Seed::from_number(seed);
    let split = loaded.split(task.schema(), None, &root).expect("enough rows");
    let (train, test) = (all.select(&split.train), Arc::new(all.select(&split.test)));
    let rows = Rows { labels: train.labels(), classes: task.schema().classes, sites: None };
    let partition = Partition::parse("dirichlet:1.0").expect("known");
    let shards = partition.split(rows, PEERS, &mut root.stream("kith.v1 partition")).expect("possible");
    let mut order: Vec<usize> = (0..PEERS).collect();
    root.stream("kith.v1 adversaries").shuffle(&mut order);
    let liars = order[..2].to_vec();

    let charter = Arc::new(charter);
    let initial = Arc::new(task.initial_parameters());
    let layout = task.layout().digest();
    let members = (0..PEERS).map(|index| {
        let (charter, initial) = (Arc::clone(&charter), Arc::clone(&initial));
        let lies = attacked && liars.contains(&index);
        let setup = move || {
            let conduct: Box<dyn Conduct> =
                if lies { attack_from_text("sign-flip:10").expect("known") } else { Box::new(Honest) };
            Setup {
                authenticator: Authenticator::from_secret(&secret(seed, index)),
                charter: Arc::clone(&charter),
                roster: charter.roster(),
                codec: Document::parse(&format!("[codec]\n{CODEC}")).expect("toml").section("codec", codec_from_section),
                layout,
                initial: Arc::clone(&initial),
                seed: Seed::from_number(seed).child(&index.to_string()),
                conduct,
                evaluate_every: 0,
            }
        };
        let learner = Learner::new(&task, train.select(&shards[index]), root.child(&index.to_string()), Some(Arc::clone(&test)));
        Participant::new(setup, learner.expect("rows fit"))
    });
    let mut federation = Federation::new(members.collect(), Weather::clear());
    assert!(federation.run(Duration::from_secs(3600)), "everyone finishes");
    let honest: Vec<usize> = (0..PEERS).filter(|index| !attacked || !liars.contains(index)).collect();
    let accuracy: Vec<f64> = honest
        .iter()
        .map(|index| {
            let evaluated = federation.events_of(*index).filter_map(|event| match event {
                Event::Evaluated { accuracy, .. } => Some(*accuracy),
                _ => None,
            });
            evaluated.last().expect("evaluated after the last round")
        })
        .collect();
    let (mut sent, mut dense) = (0, 0);
    for (_, _, event) in &federation.events {
        if let Event::Accepted { payload_bytes, keyframe_bytes, dense_bytes, .. } = event {
            sent += payload_bytes + keyframe_bytes;
            dense += dense_bytes;
        }
    }
    Outcome {
        accuracy_mean: accuracy.iter().sum::<f64>() / accuracy.len() as f64,
        accuracy_min: accuracy.iter().copied().fold(1.0, f64::min),
        share_of_dense: sent as f64 / dense as f64,
    }
}

#[test]
fn liars_break_the_mean_and_the_defence_holds_in_four_cells_over_five_seeds() {
    println!("seed   mean   defence   mean, liars   defence, liars (min)   bytes of dense");
    let seeds = 0..5;
    let mut totals = [0.0; 4];
    let mut worst = 1.0f64;
    for seed in seeds.clone() {
        let cells = [run(seed, false, false), run(seed, false, true), run(seed, true, false), run(seed, true, true)];
        let [clean, cost, broken, saved] = &cells;
        println!(
            "{seed}      {:.3}  {:.3}     {:.3}         {:.3} ({:.3})          {:.3}",
            clean.accuracy_mean,
            cost.accuracy_mean,
            broken.accuracy_mean,
            saved.accuracy_mean,
            saved.accuracy_min,
            saved.share_of_dense
        );
        totals.iter_mut().zip(&cells).for_each(|(total, cell)| *total += cell.accuracy_mean / 5.0);
        worst = worst.min(saved.accuracy_min);
        assert!(broken.accuracy_mean < 0.5, "seed {seed}: the attack works against the plain mean");
        assert!(saved.share_of_dense <= 0.1, "seed {seed}: bytes with keyframes");
    }
    let [clean, cost, broken, saved] = totals;
    println!("mean   {clean:.3}  {cost:.3}     {broken:.3}         {saved:.3} ({worst:.3})");
    assert!(saved >= 0.92, "the defence holds: {saved:.3}");
    assert!(worst >= 0.88, "for every honest peer: {worst:.3}");
    assert!(clean - cost <= 0.03, "and costs little without liars: {clean:.3} and {cost:.3}");
}

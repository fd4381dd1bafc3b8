//! A member that does more than its peer: it sees what its peer hears and does, may change that, and
//! says to anyone it is connected with whatever it likes, in whatever bytes.

use std::time::Duration;

use kith_consensus::PeerId;
use kith_gossip::{Effect, Input, Peer};

use super::entry::Entry;
use super::member::Process;
use super::{Observer, Simulation, nanoseconds};

/// What an adversary sees of itself and of the carrier.
pub struct Scene<'a> {
    /// Virtual time since the beginning.
    pub now: Duration,
    /// Its own peer, after it has handled the input.
    pub peer: &'a Peer,
    /// In which life its process is.
    pub incarnation: u64,
    /// The peers that it is connected with, in the order of ids.
    pub connected: &'a [PeerId],
}

/// Why an adversary is asked what it does.
#[derive(Clone, Copy, Debug)]
pub enum Cue<'a> {
    /// Its peer has handled this.
    Input(&'a Input),
    /// A tenth of a second of virtual time has passed.
    Tick,
}

/// What an adversary does.
#[derive(Debug, Default)]
pub struct Acts {
    /// What happens now. After an input, these are its peer's effects at first: it may take some
    /// away, alter them, and add others.
    pub effects: Vec<Effect>,
    /// What happens later.
    pub later: Vec<(Duration, Effect)>,
}

/// A member that breaks the protocol with messages. Its peer runs as any other does.
pub trait Adversary: std::fmt::Debug {
    /// Decides what happens.
    fn act(&mut self, scene: &Scene<'_>, cue: Cue<'_>, acts: &mut Acts);
}

/// Time between two ticks (guess: many in the shortest deadline of a world).
const PAUSE: Duration = Duration::from_millis(100);

impl<O: Observer> Simulation<O> {
    /// The member begins to tick, if it has an adversary.
    pub(super) fn ticks(&mut self, member: usize) {
        let state = &self.members[member];
        if state.adversary.is_some() && state.process == Process::Up {
            let entry = Entry::Tick {
                member: member as u32,
                life: state.life,
            };
            self.queue.push(self.now + nanoseconds(PAUSE), entry);
        }
    }

    /// Time has passed for a member with an adversary.
    pub(super) fn tick(&mut self, member: usize) {
        let mut acts = Acts::default();
        self.consult(member, Cue::Tick, &mut acts);
        acts.effects
            .into_iter()
            .for_each(|effect| self.perform(member, effect));
        self.ticks(member);
    }

    /// A member's adversary, if it has one, changes what its peer does upon an input.
    pub(super) fn bend(&mut self, member: usize, input: Option<&Input>, effects: &mut Vec<Effect>) {
        let Some(input) = input else { return };
        let mut acts = Acts {
            effects: std::mem::take(effects),
            later: Vec::new(),
        };
        self.consult(member, Cue::Input(input), &mut acts);
        *effects = acts.effects;
    }

    fn consult(&mut self, member: usize, cue: Cue<'_>, acts: &mut Acts) {
        let state = &mut self.members[member];
        let Some(mut adversary) = state.adversary.take() else {
            return;
        };
        let connected: Vec<PeerId> = state.connections.keys().copied().collect();
        let scene = Scene {
            now: Duration::from_nanos(self.now),
            peer: &state.peer,
            incarnation: state.incarnation(),
            connected: &connected,
        };
        adversary.act(&scene, cue, acts);
        let life = state.life;
        state.adversary = Some(adversary);
        for (after, effect) in acts.later.drain(..) {
            let entry = Entry::Act {
                member: member as u32,
                life,
                effect: Box::new(effect),
            };
            self.queue.push(self.now + nanoseconds(after), entry);
        }
    }
}

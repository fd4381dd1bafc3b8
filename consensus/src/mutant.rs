//! Bugs planted on purpose, one line each, to see that simulated worlds notice them.
//!
//! Without feature `mutants` [`planted`] is constantly false and the compiler removes all of it.
//! With the feature a process has at most one at a time, for all its peers alike. The crates that
//! know this one plant theirs here too, so that there is one list.

/// Declares the mutants: the variant, its name, the bug.
macro_rules! mutants {
    ($($variant:ident $name:literal $what:literal,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {
            $(#[doc = $what] $variant,)*
        }

        /// Every mutant: itself, its name, the bug.
        pub static MUTANTS: &[(Mutant, &str, &str)] = &[$((Mutant::$variant, $name, $what),)*];
    };
}

mutants! {
    TrimOneTooFew "trim-one-too-few" "the trimmed mean drops f - 1 values at each end",
    CombineOneTooFew "combine-one-too-few" "a rule combines one model fewer than it needs",
    CountRepetitions "count-repetitions" "an update that is already applied is taken again",
    AcceptStale "accept-stale" "an update older than the charter allows comes in",
    AcceptFuture "accept-future" "an update of the next round is applied in this one",
    KeepLeftBehind "keep-left-behind" "what waits from before a jump stays",
    MixOldUpdates "mix-old-updates" "an update of an earlier round enters the window of this one",
    ForgetOwnReplica "forget-own-replica" "publishing does not advance the own replica",
    AddReplicaTwice "add-replica-twice" "a received difference is added to the replica twice",
    SkipBase "skip-base" "a difference is added to whatever replica stands here",
    SkipState "skip-state" "the vector that results need not be the announced one",
    SkipSignature "skip-signature" "whoever is named as its sender is taken for the signer of a message",
    SkipFinite "skip-finite" "a received vector may hold NaN or infinity",
    SendUnpromised "send-unpromised" "an update leaves before the intent is durable",
    TrainAgain "train-again" "after a crash a round is trained anew though an update of it was promised",
    ForgetIntentAhead "forget-intent-ahead" "an intent ahead of the checkpoint is ignored",
    ForgetSigned "forget-signed" "an own header that a neighbour returns is ignored",
    KeepHeaders "keep-headers" "no neighbour is given back its newest header",
    ForgetReplicas "forget-replicas" "the checkpoint's replicas are not restored",
    ForgetParameters "forget-parameters" "the checkpoint's parameters are not restored",
    CountExpelled "count-expelled" "the contribution of a convicted peer stays in the window",
    IgnoreProof "ignore-proof" "a proof of contradiction from others is ignored",
    PassNothingOn "pass-nothing-on" "headers are not shown to the sender's other neighbours",
    MistakeDirection "mistake-direction" "whom a peer sends to are taken for those it receives from",
    SendToStrangers "send-to-strangers" "updates go to whoever connects",
    ForgetGoodbye "forget-goodbye" "a goodbye is not remembered",
    NeverForgive "never-forgive" "a peer that missed deadlines once is never waited for again",
    BelieveOne "believe-one" "a peer jumps to the f-th highest claim",
    LoseWeight "lose-weight" "the weight of absent peers goes to everybody and not to the own model",
    StayAfterSkip "stay-after-skip" "a round that could not mix is not counted",
    StaleDeadline "stale-deadline" "the timer of an earlier round closes this one",
    NoDeadline "no-deadline" "a round waits without end",
    LowQuorum "low-quorum" "the quorum's share is rounded down",
    KeepOutgoing "keep-outgoing" "own updates are kept for ever",
    KeepSeen "keep-seen" "others' headers are kept for ever",
    UnsortedRows "unsorted-rows" "contributions come in the order of arrival, the own one last",
    NeverEvaluated "never-evaluated" "an answered evaluation is still waited for",
    NoRedial "no-redial" "lost neighbours are dialled once and never again",
    AcceptAnySpelling "accept-any-spelling" "an envelope may be spelled in any way that decodes",
    ForgiveOtherSequence "forgive-other-sequence" "two updates of a round with other sequences prove nothing",
    CompareStateOnly "compare-state-only" "two updates with one state and other payloads prove nothing",
    PassOnFirstOnly "pass-on-first-only" "a message whose header came first is not shown to others",
    ForgetFarRounds "forget-far-rounds" "at a free pace, headers of rounds far from this peer's are not kept",
    ShowReceiversOnly "show-receivers-only" "headers are shown to connected receivers only, not to a peer between two",
    BlameForwarder "blame-forwarder" "a malformed message is passed on, and counts against the peer that did so",
    DismissForever "dismiss-forever" "a peer that was sent away is not dialled again after the ban",
    BelieveRecordings "believe-recordings" "what a peer signed in an earlier life is taken for what it says now",
    BelieveOldGoodbye "believe-old-goodbye" "a goodbye that others pass on is believed though newer headers are known",
    BelieveHearsay "believe-hearsay" "an address record need not be signed by the peer that it names",
    TellAllAddresses "tell-all-addresses" "addresses of a private network are told to peers outside it",
    DialRefuted "dial-refuted" "an address at which another key answered is dialled again at once",
    WaitToTheEnd "wait-to-the-end" "a start waits for everybody though another has begun and waits for this peer",
    GrantNoTime "grant-no-time" "a neighbour that waits for another is not given the time for that",
    BlameSpared "blame-spared" "a peer is late for a round that had ceased to wait for it before it was on time again",
    EvictFetched "evict-fetched" "an update whose body is being pulled makes room for newer ones",
    BelieveSoleClaim "believe-sole-claim" "one neighbour's claim lets a peer jump though others could confirm it",
    KeepPulls "keep-pulls" "a body is still pulled after its round",
    IgnoreUnanswered "ignore-unanswered" "a handshake that asks for an answer is not answered by a peer that has met its sender",
    ForgetExpulsion "forget-expulsion" "a restarted peer believes peers that it had expelled",
    AllowFloods "allow-floods" "a peer may send as much as it likes",
    ForgiveAtOnce "forgive-at-once" "one update in time makes up for all deadlines missed",
    ServeAnybody "serve-anybody" "any member may pull any body",
    ForgetSpent "forget-spent" "what a peer's own header states of its ledger is ignored",
    ChargeUnanswered "charge-unanswered" "a peer that was started charges before any neighbour has answered",
    FreshLedger "fresh-ledger" "a privacy ledger is read as an empty one",
    ChargeAfterSend "charge-after-send" "a private release is charged once it has been sent",
    QuarterNoise "quarter-noise" "the noise of a private release has a quarter of its deviation",
    SameNoise "same-noise" "the steps of a private release share one noise key",
    BareTensor "bare-tensor" "the first values of a private release get no noise",
    FixedLots "fixed-lots" "lots have a fixed size, as shuffled batches have",
    NoClip "no-clip" "the gradients of rows are not clipped",
    SharePulls "share-pulls" "pulls wait in one queue for all sources (in the simulated carrier)",
    DropRequests "drop-requests" "a request for a body is dropped while another one is served (in the simulated carrier)",
}

#[cfg(feature = "mutants")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(u8::MAX);

/// Plants a bug in this process, or none.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.store(
        mutant.map_or(u8::MAX, |mutant| mutant as u8),
        std::sync::atomic::Ordering::SeqCst,
    );
}

/// Whether this bug is planted.
#[cfg(feature = "mutants")]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == mutant as u8
}

/// Whether this bug is planted: never, without the feature.
#[cfg(not(feature = "mutants"))]
pub const fn planted(_: Mutant) -> bool {
    false
}

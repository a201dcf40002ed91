/// What the harness does wrong on purpose, to show that the checks see it. The engine is the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: whatever is found is the engine's.
    None,
    /// A mirror begins with the state as it was some time before it was attached.
    CheckThenSubscribe,
    /// A state that finds its channel full is taken for sent.
    DroppedState,
    /// An old state arrives again and is taken for new.
    StaleVersion,
    /// A paused producer's packets go to its mirrors all the same.
    NotGated,
    /// The end of an object is told twice.
    ClosedTwice,
    /// The end of an object is not told.
    NeverClosed,
    /// A packet arrives again.
    PacketTwice,
    /// What a mirror wants is not looked at.
    LostWish,
    /// A mirror that could not be made, or has ended, is not looked at.
    LostEnd,
    /// The packets behind a loss do not say so, and are numbered as if nothing were missing.
    HiddenLoss,
}

/// Counts what was removed from a table in memory, so that a reader who is late brings nothing back: whoever looked at the
/// index hands in the moment before that look, and a moment that has passed counts no more.
#[derive(Default)]
pub(crate) struct Removals(u64);

/// A moment between two removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u64);

impl Removals {
    pub(crate) fn moment(&self) -> Moment {
        Moment(self.0)
    }

    /// Notes a removal: every moment before it has passed.
    pub(crate) fn note(&mut self) {
        self.0 += 1;
    }

    /// Whether something was removed since.
    pub(crate) fn any_since(&self, moment: Moment) -> bool {
        self.moment() != moment
    }
}

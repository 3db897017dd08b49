//! Journals, and what they add up to: common/src/journal.rs, worker/src/settle_batches.rs, coordinator/src/accounts.rs.

/// Blobs; all are orphans, and in one batch.
pub const BLOBS: usize = 2;
/// Batches that may be begun under one tenure of the lock.
pub const BATCHES: usize = 2;

/// What became of a blob, by a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// Not in the plan.
    NotPlanned,
    Gone,
    NotDone,
    Failed,
    Unknown,
    Unattributed,
}

pub type Fates = [Fate; BLOBS];

/// The files of a batch. Each is written over by whoever writes it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The number of the claim that it was begun under.
    pub claim: u8,
    pub started: bool,
    /// Every key of it is gone.
    pub deleted: bool,
    pub ended: Option<Fates>,
}

/// What became of a batch, as `JournalFiles::read_part` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchEnd {
    NotBegun,
    Open,
    Ended(Fates),
}

impl Batch {
    pub const NONE: Self = Self {
        claim: 0,
        started: false,
        deleted: false,
        ended: None,
    };

    pub fn read(&self, plan: u8) -> BatchEnd {
        match (self.deleted, self.ended, self.started) {
            (true, ..) => BatchEnd::Ended(planned(plan, |_| Fate::Gone)),
            (_, Some(fates), _) => BatchEnd::Ended(fates),
            (_, None, true) => BatchEnd::Open,
            (_, None, false) => BatchEnd::NotBegun,
        }
    }

    /// `Journal::settle`, and the end of `Journal::end`.
    pub fn write_end(&mut self, fates: Fates) {
        if fates
            .iter()
            .all(|fate| matches!(fate, Fate::Gone | Fate::NotPlanned))
        {
            self.deleted = true;
        } else {
            self.ended = Some(fates);
        }
    }
}

/// The fates of a plan's blobs.
pub fn planned(plan: u8, fate: impl Fn(usize) -> Fate) -> Fates {
    std::array::from_fn(|blob| match plan & (1 << blob) {
        0 => Fate::NotPlanned,
        _ => fate(blob),
    })
}

/// `is_unsettled`
pub fn is_unsettled(end: BatchEnd) -> bool {
    match end {
        BatchEnd::NotBegun => false,
        BatchEnd::Open => true,
        BatchEnd::Ended(fates) => fates.contains(&Fate::Unknown),
    }
}

/// What a look at an unsettled batch showed. Blobs that are absent and of which nobody had said it: by the bit of their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LookedAt {
    pub fates: Fates,
    pub absent: u8,
}

/// `look_at`. `None` for a batch that is settled.
pub fn look_at(end: BatchEnd, plan: u8, present: u8) -> Option<LookedAt> {
    if !is_unsettled(end) {
        return None;
    }
    let known = match end {
        BatchEnd::Ended(fates) => fates,
        BatchEnd::NotBegun | BatchEnd::Open => planned(plan, |_| Fate::NotDone),
    };
    let mut looked_at = LookedAt {
        fates: known,
        absent: 0,
    };
    for (blob, fate) in looked_at.fates.iter_mut().enumerate() {
        if !matches!(fate, Fate::NotDone | Fate::Unknown) {
            continue;
        }
        *fate = if present & (1 << blob) == 0 {
            Fate::Gone
        } else {
            Fate::NotDone
        };
        looked_at.absent |= u8::from(*fate == Fate::Gone) << blob;
    }
    Some(looked_at)
}

impl LookedAt {
    /// Where another run has deleted since, nobody can tell who freed what is absent.
    pub fn attribute(mut self, another_has_deleted: bool) -> Fates {
        for (blob, fate) in self.fates.iter_mut().enumerate() {
            if another_has_deleted && self.absent & (1 << blob) != 0 {
                *fate = Fate::Unattributed;
            }
        }
        self.fates
    }
}

/// The blobs that are gone by some batch: `states_of`, and the union by digest.
pub fn gone(ends: impl Iterator<Item = BatchEnd>) -> u8 {
    let mut gone = 0;
    for end in ends {
        if let BatchEnd::Ended(fates) = end {
            for (blob, fate) in fates.iter().enumerate() {
                gone |= u8::from(*fate == Fate::Gone) << blob;
            }
        }
    }
    gone
}

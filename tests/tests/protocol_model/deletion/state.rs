//! What there is in the deletion model: a registry, its lock, two coordinators, two workers.

/// Epochs that there may be; each has a coordinator of its own, which may outlive its lock.
pub const EPOCHS: u8 = 2;
const WORKERS: usize = 2;

/// Ticks that a lock is good for after it was renewed.
pub const LEASE: i8 = 4;
/// Ticks that a delete request may take: `delete_timeout`, a third of the lease.
pub const TIMEOUT: i8 = 2;
/// Ticks that a worker goes by its last look at the lock: `look_again_after`, a sixth of the lease, rounded up.
pub const LOOK_AGAIN: i8 = 1;

/// The blob of the image that is there from the beginning.
pub const OLD: u8 = 0b01;
/// An orphan at first; the image that is pushed names it, and the other one.
pub const REUSED: u8 = 0b10;

/// The blobs that an image needs.
pub fn blobs_of(image: u8) -> u8 {
    if image == 0 { OLD } else { OLD | REUSED }
}

/// How far the push of image 1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Push {
    NotBegun,
    /// Its layers are there and linked.
    Linked,
    /// The registry has taken its manifest, and tagged it.
    Done,
}

/// hardprune/lock.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lock {
    pub epoch: u8,
    /// Ticks until it lapses; below 0 those since.
    pub left: i8,
    /// Whether it names the epoch's sealed plan.
    pub allows: bool,
}

impl Lock {
    /// `LockDocument::requests_end`: it has lapsed, and so long ago that every request must have ended.
    pub fn is_over(&self) -> bool {
        self.left == -TIMEOUT
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    NotBegun,
    Locked,
    /// Its plan is sealed.
    Planned,
    /// The lock says so, and tasks are handed out.
    Allowed,
    /// The lock allows nothing any more, and it waits for silence.
    Forbidden {
        left: i8,
    },
    /// The lock is written for the last time, and about to be removed.
    Removing,
    Ended,
    /// It can do nothing more: the lock is lost.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Coordinator {
    pub phase: Phase,
    /// It is about to renew the lock, and read the time for that so many ticks ago.
    pub renewing: Option<i8>,
}

impl Coordinator {
    /// It can do nothing more.
    pub fn lose(&mut self) {
        self.phase = Phase::Lost;
        self.renewing = None;
    }
}

/// How far a worker is with its task. `left`: ticks until the request must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Idle,
    /// Has taken the claim of another, and waits until that one's requests must have ended.
    Waiting {
        epoch: u8,
        left: i8,
    },
    Claimed {
        epoch: u8,
    },
    /// The batch's start is journaled, and the time noted from which its deadline counts.
    Asked {
        epoch: u8,
        left: i8,
    },
    Permitted {
        epoch: u8,
        left: i8,
    },
    InFlight {
        epoch: u8,
        left: i8,
    },
    /// It knows what became of the request, or that nobody will tell.
    Answered {
        epoch: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    pub step: Step,
    /// Whether the claim of its task is its.
    pub holds_claim: bool,
    /// Whether it has seen in this tick that the lock allows its epoch, for longer than a request may take.
    pub has_looked: bool,
    /// Whether its batch stands open in the journal.
    pub has_open_batch: bool,
}

impl Worker {
    pub const IDLE: Self = Self {
        step: Step::Idle,
        holds_claim: false,
        has_looked: false,
        has_open_batch: false,
    };

    /// The epoch of its task.
    pub fn epoch(&self) -> Option<u8> {
        match self.step {
            Step::Idle => None,
            Step::Waiting { epoch, .. }
            | Step::Claimed { epoch }
            | Step::Asked { epoch, .. }
            | Step::Permitted { epoch, .. }
            | Step::InFlight { epoch, .. }
            | Step::Answered { epoch } => Some(epoch),
        }
    }
}

/// What an epoch has left in the state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Books {
    /// The blobs that its sealed plan names.
    pub plan: Option<u8>,
    /// Somebody has reported the task.
    pub is_reported: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub read_only: bool,
    pub blobs: u8,
    /// Images that have a revision link.
    pub revisions: u8,
    /// What the only tag names.
    pub tag: Option<u8>,
    pub push: Push,
    pub lock: Option<Lock>,
    /// By epoch.
    pub coordinators: [Coordinator; EPOCHS as usize],
    pub books: [Books; EPOCHS as usize],
    /// In no order.
    pub workers: [Worker; WORKERS],
}

impl State {
    pub fn first() -> Self {
        Self {
            read_only: false,
            blobs: OLD | REUSED,
            revisions: 0b01,
            tag: Some(0),
            push: Push::NotBegun,
            lock: None,
            coordinators: [Coordinator {
                phase: Phase::NotBegun,
                renewing: None,
            }; EPOCHS as usize],
            books: [Books {
                plan: None,
                is_reported: false,
            }; EPOCHS as usize],
            workers: [Worker::IDLE; WORKERS],
        }
    }

    pub fn has_revision(&self, image: u8) -> bool {
        self.revisions & (1 << image) != 0
    }

    pub fn has_all_of(&self, image: u8) -> bool {
        self.blobs & blobs_of(image) == blobs_of(image)
    }

    /// What marking finds: what the manifest of any revision names.
    pub fn references(&self) -> u8 {
        let images = [0, 1].into_iter().filter(|image| self.has_revision(*image));
        images.map(blobs_of).fold(0, |all, blobs| all | blobs)
    }

    /// Whether every image that the tag serves has its blobs.
    pub fn live_are_whole(&self) -> bool {
        self.tag.is_none_or(|image| self.has_all_of(image))
    }

    /// Whether a batch of an epoch stands open in the journal.
    pub fn has_open_batches(&self, epoch: u8) -> bool {
        let mut of_epoch = self.workers.iter().filter(|worker| worker.epoch() == Some(epoch));
        of_epoch.any(|worker| worker.has_open_batch)
    }

    /// The lock, where it is an epoch's.
    pub fn lock_of(&self, epoch: u8) -> Option<Lock> {
        self.lock.filter(|lock| lock.epoch == epoch)
    }
}

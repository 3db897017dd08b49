//! How much a mark task takes on before it ends early, hands on or forgets. No result depends on it (R9).

/// The limits of a mark task. Tests have smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkLimits {
    /// A range with more keys than this is ended early: about what a worker lists in some seconds.
    pub range_keys: u64,
    /// Where what manifests say is remembered, a range with more revisions than this is ended early, too: half of what is
    /// remembered, because the range ends behind the repository that has one too many.
    pub range_revisions: usize,
    /// Where all are live, manifests of which it is remembered that they were read. Those beyond are read again where they are
    /// met again: never where ranges end early, which have no more keys.
    pub remembered_reads: usize,
    /// Manifests of which it is remembered what they say. Those beyond are read again where they are met again.
    pub remembered_manifests: usize,
    /// Revisions after which a repository is handed on in pieces, where each revision can be judged by itself.
    pub piece_revisions: usize,
    /// The same of one whose layer links were only glanced at: those that no manifest of their piece answers cost a look each.
    pub glanced_piece_revisions: usize,
    /// Layer links, glanced at only, after which it is.
    pub piece_layers: usize,
}

impl Default for MarkLimits {
    fn default() -> Self {
        Self {
            range_keys: 100_000,
            range_revisions: 2_000,
            remembered_reads: 100_000,
            remembered_manifests: 4_000,
            piece_revisions: 500,
            glanced_piece_revisions: 5_000,
            piece_layers: 50_000,
        }
    }
}

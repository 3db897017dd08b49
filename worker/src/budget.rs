//! How many tasks a worker does at once, by the memory that it may take (R9).

use hardprune_common::byte_size::parse_byte_size;

/// What one task holds beside the manifests that it reads: buffers of segments, a shard's filter, a part of a plan, a page of a
/// listing, blocks of the mark cache. An estimate from their bounds, and a cautious one: with twelve tasks at once a worker was measured at
/// 89 MiB in all, on ten million blobs.
const OF_A_TASK: u64 = 11 << 20;
/// The largest manifest that a registry takes.
const OF_A_READ: u64 = 4 << 20;
/// What the program takes without any task.
const OF_THE_PROGRAM: u64 = 24 << 20;
const MOST_TASKS: u64 = 32;
const MOST_READS_OF_A_TASK: u64 = 32;

/// What a worker may do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tasks.
    pub tasks: usize,
    /// Reads that each may have in flight.
    pub reads_of_a_task: usize,
}

impl Budget {
    /// What fits into so many bytes, at least one task with one read; with no more tasks than requests in flight.
    #[must_use]
    pub fn of(max_memory: u64, concurrency: u16) -> Self {
        // Nearly all manifests are a hundred times smaller than the largest: a few at once that are not must still fit.
        let for_tasks = max_memory.saturating_sub(OF_THE_PROGRAM);
        let tasks = (for_tasks / (OF_A_TASK + 2 * OF_A_READ))
            .clamp(1, MOST_TASKS)
            .min(u64::from(concurrency).max(1));
        let reads = (u64::from(concurrency) / tasks).clamp(1, MOST_READS_OF_A_TASK);
        Self {
            tasks: usize::try_from(tasks).unwrap_or(1),
            reads_of_a_task: usize::try_from(reads).unwrap_or(1),
        }
    }
}

/// Reads an amount of memory: `256MiB`, `1GiB`, `300MB` or bytes.
///
/// # Errors
///
/// What is none, with how to write it, and less than a worker needs.
pub fn memory(text: &str) -> Result<u64, String> {
    let bytes = parse_byte_size(text)?;
    if bytes < 32 << 20 {
        return Err("a worker needs 32MiB at least".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        assert_eq!(memory("256MiB"), Ok(256 << 20));
        assert!(memory("1MiB").is_err() && memory("lots").is_err());
    }

    #[test]
    fn at_least_one_task_and_never_more_than_requests() {
        assert_eq!(
            Budget::of(32 << 20, 1),
            Budget {
                tasks: 1,
                reads_of_a_task: 1
            }
        );
        assert_eq!(Budget::of(1 << 40, 4).tasks, 4);
        let usual = Budget::of(256 << 20, 64);
        assert!(usual.tasks >= 8 && usual.reads_of_a_task >= 4, "{usual:?}");
    }
}

//! How many tasks a worker does at once, by the memory that it may take (R9).

/// What one task holds beside the manifests that it reads: buffers of segments, a shard's filter, a part of a plan, a page of a
/// listing. An estimate from their bounds; workers with two tasks at once were measured at 26 MiB in all (`make bench`).
const OF_A_TASK: u64 = 8 << 20;
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
/// What is none, with how to write it.
pub fn memory(text: &str) -> Result<u64, String> {
    let how = || "write it as 256MiB, 1GiB or a number of bytes".to_owned();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| how())?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(how()),
    };
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes >= 32 << 20)
        .ok_or_else(|| "a worker needs 32MiB at least".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        assert_eq!(memory("256MiB"), Ok(256 << 20));
        assert_eq!(memory("1 GiB"), Ok(1 << 30));
        assert_eq!(memory("64000000"), Ok(64_000_000));
        assert!(memory("1MiB").is_err() && memory("lots").is_err() && memory("5 apples").is_err());
        assert!(memory("99999999999999999999").is_err() && memory("18446744073709551615GiB").is_err());
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

//! `demo`: placeholder
use crate::error::RunError;
use crate::exit_status::ExitStatus;
pub async fn demo() -> Result<ExitStatus, RunError> {
    Ok(ExitStatus::Done)
}

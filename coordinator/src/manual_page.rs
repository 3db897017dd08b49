//! `man`: the manual pages, made from the command line's own definition.

use std::io;

use crate::cli;
use crate::error::RunError;

/// Prints the page of a command: `["runs", "list"]`, or none for the program itself.
///
/// # Errors
///
/// Words that are no command, a standard output that cannot be written to.
pub(crate) fn print_manual_page(words: &[String]) -> Result<(), RunError> {
    let page = manual_page(words)?;
    page.render(&mut io::stdout()).map_err(|source| RunError::Output {
        path: "-".into(),
        source,
    })
}

fn manual_page(words: &[String]) -> Result<clap_mangen::Man, RunError> {
    let mut program = cli::command();
    // Gives each command its whole name, and the options of all commands.
    program.build();
    let mut command = &program;
    for word in words {
        command = command.find_subcommand(word).ok_or_else(|| {
            let commands: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
            RunError::Usage(format!(
                "{} has no command {word:?}; there are: {}",
                command.get_bin_name().unwrap_or("hardprune"),
                commands.join(", ")
            ))
        })?;
    }
    Ok(clap_mangen::Man::new(command.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: &[&str]) -> Result<String, RunError> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut text = Vec::new();
        manual_page(&words)?.render(&mut text).unwrap();
        Ok(String::from_utf8(text).unwrap().replace('\\', ""))
    }

    #[test]
    fn every_command_that_a_page_names_has_one() {
        assert!(page(&[]).unwrap().contains("hardprune-delete(1)"));
        let delete = page(&["delete"]).unwrap();
        assert!(delete.contains(".TH hardprune-delete 1"), "{delete}");
        assert!(delete.contains("--assume-read-only"), "{delete}");
        assert!(page(&["runs", "show"]).unwrap().contains("hardprune-runs-show"));
        let error = page(&["runs", "hide"]).unwrap_err().to_string();
        assert!(error.contains("list, show"), "{error}");
    }
}

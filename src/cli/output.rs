//! Output formats of commands.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// Table for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

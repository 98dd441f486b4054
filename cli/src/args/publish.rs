//! The command line of `publish`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use p2pweights_protocol::manifest::MirrorUrl;

use super::checked;

/// Shown below its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  p2pweights publish ./my-model --name org/my-model --revision main --license Apache-2.0
  p2pweights publish ./weights.gguf
  p2pweights publish ~/.cache/huggingface/hub/models--org--model

The files stay where they are and are served from there. The same folder gives the same hash on any machine.";

/// `publish`
#[derive(Debug, Args)]
pub struct PublishArguments {
    /// File or folder
    #[arg(value_hint = ValueHint::AnyPath)]
    pub path: PathBuf,
    /// Name to publish it under
    #[arg(long, value_name = "ORG/MODEL")]
    pub name: Option<String>,
    /// Revision of the model
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
    /// Licence, as an SPDX expression
    #[arg(long, value_name = "SPDX")]
    pub license: Option<String>,
    /// Copy the files into the store instead of serving them from where they lie
    #[arg(long)]
    pub copy: bool,
    /// Web folder below which the files lie, for the manifest; may be repeated, the preferred first
    #[arg(long, value_name = "URL", value_parser = checked(MirrorUrl::parse))]
    pub mirror: Vec<String>,
    /// Write manifest and proofs into the folder (.p2pweights/): any web server that serves it is then a mirror
    #[arg(long)]
    pub sidecar: bool,
    /// Leave SHA-256 out of the manifest: hashes several times faster, but nobody can match the files with those of other hubs
    #[arg(long)]
    pub no_sha256: bool,
    /// Only files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No file that matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

//! The command line of `import`.

use clap::{Args, ValueHint};

/// Shown below its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  p2pweights import hf:org/model                     the branch main of a repository, checked against the hub's listing
  p2pweights import hf:org/model@v2 --include '*Q4_K_M*'
  p2pweights import ~/.cache/huggingface/hub/models--org--model    what is there already, by reference

Stopped or killed, it goes on where it was when it is run again. A token is taken from the variable named by --token-env, or from
HF_TOKEN for huggingface.co and $HF_ENDPOINT. What comes from a gated or private repository is not given to others, unless the
setting share.gated lists it.";

/// `import`
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// Repository of a hub (hf:ORG/MODEL, main unless @REV follows), folder of Hugging Face's cache, or any model folder
    #[arg(value_name = "hf:ORG/MODEL[@REV]|PATH", value_hint = ValueHint::AnyPath)]
    pub source: String,
    /// Hub to import from [default: $HF_ENDPOINT or https://huggingface.co]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Environment variable that holds a token for the hub [default: HF_TOKEN, for the default hub only]
    #[arg(long, value_name = "NAME")]
    pub token_env: Option<String>,
    /// Only files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No file that matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

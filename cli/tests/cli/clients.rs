//! Other people's clients against the gateway: one folder of a model, a node that holds it, and a node that has to find it first.
//!
//! `tests/run` installs the clients; where they are not there, these tests say so and pass. The conformance script is looked for beside the
//! project, and in `P2PWEIGHTS_HF_CONFORMANCE`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{World, noise};

/// Where the clients are.
pub struct Clients(PathBuf);

impl Clients {
    /// Those that were installed, if any.
    pub fn given() -> Option<Self> {
        let folder = std::env::var_os("P2PWEIGHTS_TEST_CLIENTS").map(PathBuf::from).filter(|folder| folder.is_dir());
        if folder.is_none() {
            eprintln!("not tried: the clients are not installed; tests/run installs them");
        }
        folder.map(Self)
    }

    /// The virtual environment of that name.
    fn environment(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Its Python.
    pub fn python(&self, name: &str) -> PathBuf {
        self.environment(name).join("bin/python")
    }

    /// Without any setting of the user's, and without questions to anybody else.
    pub fn quiet<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HF_")) {
            command.env_remove(name);
        }
        let settings =
            ["HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK", "HF_HUB_DISABLE_PROGRESS_BARS", "DO_NOT_TRACK"];
        command.envs(settings.map(|name| (name, "1"))).env("PYTHONDONTWRITEBYTECODE", "1").env_remove("NO_PROXY")
    }
}

/// A small model that any client finds something to try in: two shards with their index, an empty file, folders, odd names.
fn model(world: &World, clients: &Clients) -> PathBuf {
    let script = "
import sys
from transformers import LlamaConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers
folder = sys.argv[1]
small = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=128, intermediate_size=64)
AutoModelForCausalLM.from_config(LlamaConfig(**small)).save_pretrained(folder, max_shard_size='200KB')
inner = Tokenizer(models.WordLevel({'[UNK]': 0, **{f'word{i}': i for i in range(1, 128)}}, unk_token='[UNK]'))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=inner, unk_token='[UNK]').save_pretrained(folder)
";
    let folder = world.path("model");
    let mut command = Command::new(clients.python("newest"));
    let made = clients.quiet(command.arg("-c").arg(script).arg(&folder)).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    world.write("model/onnx/sub dir/weights.bin", noise(1, 23 << 20));
    world.write("model/onnx/empty.txt", "");
    world.write("model/merges #1.txt", "a b\n");
    world.write("model/README.md", "---\nlicense: mit\n---\n# Tiny\n");
    folder
}

fn script() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/hf_conformance.sh");
    let script = std::env::var_os("P2PWEIGHTS_HF_CONFORMANCE").map_or(beside, PathBuf::from);
    if !script.is_file() {
        eprintln!("not tried: there is no conformance script at {}", script.display());
    }
    Some(script).filter(|script| script.is_file())
}

/// Runs the script with every client; every case must be well.
fn conforms(clients: &Clients, script: &Path, endpoint: &str, folder: &Path) {
    let environments = ["newest", "old"].map(|name| clients.environment(name).display().to_string()).join(" ");
    let mut command = Command::new("bash");
    command.arg(script).args([endpoint, "org/tiny"]).arg(folder);
    let output = clients.quiet(&mut command).env("HF_CONF_VENVS", environments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let passed: u32 = said.lines().last().and_then(|line| line.split(' ').next()).and_then(|count| count.parse().ok()).unwrap();
    println!("{said}");
    assert!(passed > 100, "only {passed} cases");
}

#[test]
fn clients_cannot_tell_a_node_that_holds_the_model_from_a_hub() {
    let Some((clients, script)) = Clients::given().zip(script()) else { return };
    let world = World::new();
    let model = model(&world, &clients);
    world.publish("holder", &model, &["--name", "org/tiny"]);
    let node = world.node("holder", &["--gateway", "127.0.0.1:0"]);
    conforms(&clients, &script, &node.gateway(), &model);
}

#[test]
fn nor_one_that_has_to_find_it_over_the_dht() {
    let Some((clients, script)) = Clients::given().zip(script()) else { return };
    let world = World::new();
    let model = model(&world, &clients);
    let hash = world.publish("holder", &model, &["--name", "org/tiny"]);
    let bootstrap = world.node("bootstrap", &[]);
    let _holder = world.node("holder", &["--bootstrap", &bootstrap.address()]);
    let config = world.write("asker.toml", format!("[gateway.models]\n\"org/tiny\" = \"{hash}\"\n"));
    let arguments = ["--bootstrap", &bootstrap.address(), "--config", config.to_str().unwrap(), "--gateway", "127.0.0.1:0"];
    let asker = world.node("asker", &arguments);
    conforms(&clients, &script, &asker.gateway(), &model);
}

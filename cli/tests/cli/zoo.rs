//! Repositories with the layout of real ones, through everything: imported from a hub, served, found over the DHT, loaded by other people's
//! libraries through a gateway that holds nothing, and once more from a written cache without any network.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::clients::Clients;
use crate::hub::{Hub, Manners};
use crate::world::{World, files_below};

/// Of a repository with many quantisations one is wanted.
const ONE_OF_MANY: (&str, &str) = ("bartowski/Llama-3.2-1B-Instruct-GGUF", "*Q4_K_M*");
/// Where the results stand for readers.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");

/// One revision of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Animal {
    repo: String,
    revision: String,
}

impl Animal {
    /// Everything in the zoo, sorted.
    fn all(zoo: &Path) -> Vec<Self> {
        let below = |folder: &Path| -> Vec<PathBuf> {
            let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            paths
        };
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut all = Vec::new();
        for org in below(zoo) {
            for folder in below(&org) {
                let (model, folder) = (name(&org), name(&folder));
                let (repo, revision) = folder.split_once('@').unwrap_or((&folder, "main"));
                all.push(Self { repo: format!("{model}/{repo}"), revision: revision.to_owned() });
            }
        }
        all.sort();
        all
    }

    fn folder(&self, zoo: &Path) -> PathBuf {
        if self.revision == "main" { zoo.join(&self.repo) } else { zoo.join(format!("{}@{}", self.repo, self.revision)) }
    }

    fn include(&self) -> Option<&'static str> {
        (self.repo == ONE_OF_MANY.0).then_some(ONE_OF_MANY.1)
    }

    /// What `load.py` is asked.
    fn request(&self) -> Value {
        json!({ "repo": self.repo, "revision": self.revision, "include": self.include().map(|pattern| vec![pattern]) })
    }
}

/// Runs `load.py`; its answers by repository and revision.
fn load(clients: &Clients, zoo: &Path, animals: &[Animal], variables: &[(&str, &str)]) -> BTreeMap<Animal, Value> {
    let mut command = Command::new(clients.python("newest"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/zoo/load.py")).arg(zoo);
    clients.quiet(&mut command).envs(variables.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    animals.iter().for_each(|animal| writeln!(stdin, "{}", animal.request()).unwrap());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers = String::from_utf8(output.stdout).unwrap();
    let answer = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        (Animal { repo: text("repo"), revision: text("revision") }, answer)
    };
    answers.lines().map(answer).collect()
}

/// The table of the results, as `docs/compatibility.md` has it.
fn table(animals: &[Animal], zoo: &Path, online: &BTreeMap<Animal, Value>, offline: &BTreeMap<Animal, Value>) -> String {
    let mut table = String::from(
        "| repository | revisions | files | through the gateway | from the written cache |\n|---|---|---|---|---|\n",
    );
    let mut repos: Vec<&str> = animals.iter().map(|animal| animal.repo.as_str()).collect();
    repos.dedup();
    for repo in repos {
        let of_repo: Vec<&Animal> = animals.iter().filter(|animal| animal.repo == repo).collect();
        let cell = |answers: &BTreeMap<Animal, Value>| {
            let loaders: Vec<&str> = of_repo.iter().map(|animal| answers[*animal]["loader"].as_str().unwrap()).collect();
            let mut different = loaders.clone();
            different.dedup();
            different.join(", ")
        };
        let files = files_below(&zoo.join(repo)).len();
        let files = match of_repo[0].include() {
            Some(pattern) => format!("{} of {files}, `{pattern}`", online[of_repo[0]]["files"]),
            None => files.to_string(),
        };
        writeln!(table, "| {repo} | {} | {files} | {} | {} |", of_repo.len(), cell(online), cell(offline)).unwrap();
    }
    table
}

#[test]
fn every_layout_is_imported_found_served_and_loaded() {
    let Some(clients) = Clients::given() else { return };
    let world = World::new();
    let zoo = world.path("zoo");
    let mut make = Command::new(clients.python("newest"));
    make.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/zoo/make.py")).arg(&zoo);
    let made = clients.quiet(&mut make).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let animals = Animal::all(&zoo);
    assert_eq!(animals.iter().filter(|animal| animal.revision == "main").count(), 11);

    // From a hub into the swarm. What is gated is passed on because the settings say so.
    let mut mapping = String::from("[gateway.models]\n");
    let mut hashes = BTreeMap::new();
    for animal in &animals {
        let commit = blake3::hash(animal.revision.as_bytes()).to_hex()[..40].to_owned();
        let gated = animal.repo.starts_with("meta-llama/");
        let manners = Manners { branch: Some((animal.revision.clone(), commit)), gated, ..Manners::default() };
        let hub = Hub::start(&animal.folder(&zoo), manners);
        let source = format!("hf:{}@{}", animal.repo, animal.revision);
        let imported = world.run("mirror", &["import", &source, "--endpoint", hub.base(), "--json"]).expect_code(0).last_json();
        let hash = imported["hash"].as_str().expect("import prints the hash").to_owned();
        writeln!(mapping, "\"{}@{}\" = \"{hash}\"", animal.repo, animal.revision).unwrap();
        hashes.insert(animal.clone(), hash);
    }

    // Over the DHT to a node that holds nothing, and through its gateway to the clients.
    let bootstrap = world.node("bootstrap", &[]);
    let address = bootstrap.address();
    let sharing = world.write("mirror.toml", "[share]\ngated = [\"meta-llama/Llama-3.1-8B\"]\n");
    let _mirror = world.node("mirror", &["--bootstrap", &address, "--config", sharing.to_str().unwrap()]);
    let config = world.write("asker.toml", mapping);
    let asker = world.node("asker", &["--bootstrap", &address, "--config", config.to_str().unwrap(), "--gateway", "127.0.0.1:0"]);
    let home = world.path("client");
    let online = load(&clients, &zoo, &animals, &[("HF_ENDPOINT", &asker.gateway()), ("HF_HOME", home.to_str().unwrap())]);
    let failed: Vec<&Value> = online.values().filter(|answer| answer.get("error").is_some()).collect();
    assert!(failed.is_empty() && online.len() == animals.len(), "{failed:#?}");

    // Into a cache that the clients use without any network.
    let cache = world.path("cache");
    let to = format!("hf-cache={}", cache.display());
    for animal in &animals {
        let mut arguments = vec!["fetch", &hashes[animal], "--bootstrap", &address, "--no-mdns", "--to", &to];
        arguments.extend(animal.include().into_iter().flat_map(|pattern| ["--include", pattern]));
        world.run("fetcher", &arguments).expect_code(0);
    }
    let variables = [("HF_HUB_OFFLINE", "1"), ("HF_HUB_CACHE", cache.to_str().unwrap())];
    let offline = load(&clients, &zoo, &animals, &variables);
    let failed: Vec<&Value> = offline.values().filter(|answer| answer.get("error").is_some()).collect();
    assert!(failed.is_empty() && offline.len() == animals.len(), "{failed:#?}");

    let table = table(&animals, &zoo, &online, &offline);
    let documented = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(documented.contains(&table), "docs/compatibility.md should have this table:\n{table}");
}

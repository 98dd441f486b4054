//! The face of a container registry, by which `ollama pull HOST:PORT/org/model:TAG` gets a model of one GGUF file. Pure.

use axum::http::HeaderValue;
use p2pweights_protocol::manifest::Shard;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::model::Model;
use super::refusal::ascii;
use super::tag::choose;

/// What a description of a model is in that world.
pub const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
const MODEL_TYPE: &str = "application/vnd.ollama.image.model";
/// What a digest begins with.
const DIGEST: &str = "sha256:";
/// The client that takes the file's own name from the description.
const NAMES_FILES: &str = "llama-cpp";

/// What lies beside the model: how to run it. The file itself says it better, so this says as little as clients accept.
const CONFIG: &str = concat!(
    r#"{"model_format":"gguf","model_family":"","model_families":[],"model_type":"","file_type":"","#,
    r#""architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
);

/// What a digest names.
pub enum Blob<'a> {
    /// The description beside a model.
    Config(&'static str),
    /// A file.
    File(&'a Shard),
}

/// The description of the file that a tag means; `None` if it means none.
pub fn manifest(model: &Model, tag: &str, agent: &str) -> Option<Value> {
    // Only files with a SHA-256 have a digest.
    let shards: Vec<&Shard> = model.manifest().shards().iter().filter(|shard| shard.sha256().is_some()).collect();
    let shard = shards[choose(shards.iter().map(|shard| shard.path().as_str()), tag)?];
    let digest = digest_of(shard)?;
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": { "mediaType": CONFIG_TYPE, "digest": config_digest(), "size": CONFIG.len() },
        "layers": [{ "mediaType": MODEL_TYPE, "digest": digest, "size": shard.size() }],
    });
    if agent.starts_with(NAMES_FILES) {
        let blob = digest.strip_prefix(DIGEST);
        manifest["ggufFile"] = json!({ "rfilename": shard.path().as_str(), "blobId": blob, "size": shard.size() });
    }
    Some(manifest)
}

/// What a digest names in a model; `None` if nothing.
pub fn blob<'a>(model: &'a Model, digest: &str) -> Option<Blob<'a>> {
    if digest == config_digest() {
        return Some(Blob::Config(CONFIG));
    }
    let file = model.manifest().shards().iter().find(|shard| digest_of(shard).is_some_and(|of| of == digest));
    file.map(Blob::File)
}

/// Where a blob is, for clients that take its address from this header whatever the status is.
pub fn location(host: &str, path: &str) -> HeaderValue {
    ascii(&format!("http://{host}{path}"))
}

fn digest_of(shard: &Shard) -> Option<String> {
    shard.sha256().map(|sha256| format!("{DIGEST}{sha256}"))
}

fn config_digest() -> String {
    format!("{DIGEST}{}", hex::encode(Sha256::digest(CONFIG)))
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::ids::{self, BlobHash};
    use p2pweights_protocol::manifest::{Manifest, Metadata};

    use super::*;

    fn model() -> Model {
        let shard = |path: &str, byte: u8| {
            let sha256 = Some(ids::Sha256([byte; 32]));
            Shard::new(path.parse().unwrap(), u64::from(byte), BlobHash([byte; 32]), sha256).unwrap()
        };
        let shards = vec![shard("README.md", 1), shard("m-Q4_K_M.gguf", 4), shard("m-Q8_0.gguf", 8)];
        Model::new(Manifest::new(Metadata::default(), shards).unwrap()).unwrap()
    }

    #[test]
    fn a_tag_leads_to_a_file_and_its_description() {
        let model = model();
        assert!(serde_json::from_str::<Value>(CONFIG).is_ok());
        let manifest = manifest(&model, "latest", "ollama/0.9").unwrap();
        let layer = &manifest["layers"][0];
        assert_eq!((layer["size"].as_u64(), layer["mediaType"].as_str()), (Some(4), Some(MODEL_TYPE)));
        assert!(manifest.get("ggufFile").is_none());
        let named = |digest: &Value| blob(&model, digest.as_str().unwrap());
        assert!(matches!(named(&layer["digest"]), Some(Blob::File(shard)) if shard.path().as_str() == "m-Q4_K_M.gguf"));
        assert!(
            matches!(named(&manifest["config"]["digest"]), Some(Blob::Config(config)) if config.len() == manifest["config"]["size"])
        );
        assert!(blob(&model, "sha256:00").is_none() && blob(&model, &"04".repeat(32)).is_none());
    }

    #[test]
    fn llama_cpp_learns_the_files_name_and_unknown_tags_lead_nowhere() {
        let manifest_for = |tag, agent| manifest(&model(), tag, agent);
        assert_eq!(manifest_for("Q8_0", "llama-cpp").unwrap()["ggufFile"]["rfilename"], "m-Q8_0.gguf");
        assert!(manifest_for("Q2_K", "llama-cpp").is_none());
    }
}

//! A small model folder in the layout of a hub repository: sharded safetensors with an index, config, tokenizer, licence, model card.
//! The weights are pseudo-random and always the same, so the folder has the same hash on every machine.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

/// The seed of every weight.
const SEED: &[u8] = b"p2pweights demo model 1";
/// Shards, as a hub would name them.
const SHARDS: usize = 4;
/// Dimensions of a Llama in miniature: 49 million parameters, 94 MiB as bfloat16.
const VOCABULARY: usize = 8192;
const HIDDEN: usize = 512;
const INTERMEDIATE: usize = 1536;
const LAYERS: usize = 12;
const HEADS: usize = 8;
/// Bytes of a bfloat16.
const WIDTH: usize = 2;
/// The safetensors format has its header end at a multiple of this.
const HEADER_ALIGNMENT: usize = 8;

struct Tensor {
    name: String,
    shape: Vec<usize>,
}

impl Tensor {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * WIDTH
    }
}

/// Writes the folder.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let tensors = tensors();
    let total: usize = tensors.iter().map(Tensor::bytes).sum();
    let mut weight_map = Map::new();
    for (index, shard) in shards(&tensors, total).into_iter().enumerate() {
        let name = format!("model-{:05}-of-{SHARDS:05}.safetensors", index + 1);
        write_shard(&folder.join(&name), shard)?;
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), Value::from(name.as_str()))));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    write_json(&folder.join("model.safetensors.index.json"), &index)?;
    write_json(&folder.join("config.json"), &config())?;
    write_json(&folder.join("generation_config.json"), &json!({ "bos_token_id": 1, "eos_token_id": 2, "do_sample": false }))?;
    write_json(&folder.join("tokenizer.json"), &tokenizer())?;
    write_json(&folder.join("tokenizer_config.json"), &tokenizer_config())?;
    fs::write(folder.join("LICENSE"), LICENSE)?;
    fs::write(folder.join("README.md"), model_card(total))
}

fn tensors() -> Vec<Tensor> {
    let tensor = |name: String, shape: &[usize]| Tensor { name, shape: shape.to_vec() };
    let mut tensors = vec![tensor("model.embed_tokens.weight".to_owned(), &[VOCABULARY, HIDDEN])];
    for layer in 0..LAYERS {
        let of = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for part in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"] {
            tensors.push(tensor(of(part), &[HIDDEN, HIDDEN]));
        }
        tensors.push(tensor(of("mlp.gate_proj"), &[INTERMEDIATE, HIDDEN]));
        tensors.push(tensor(of("mlp.up_proj"), &[INTERMEDIATE, HIDDEN]));
        tensors.push(tensor(of("mlp.down_proj"), &[HIDDEN, INTERMEDIATE]));
        tensors.push(tensor(of("input_layernorm"), &[HIDDEN]));
        tensors.push(tensor(of("post_attention_layernorm"), &[HIDDEN]));
    }
    tensors.push(tensor("model.norm.weight".to_owned(), &[HIDDEN]));
    tensors.push(tensor("lm_head.weight".to_owned(), &[VOCABULARY, HIDDEN]));
    tensors
}

/// Cuts the tensors into shards of about equal size, in order.
fn shards(tensors: &[Tensor], total: usize) -> Vec<&[Tensor]> {
    let mut shards = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        sum += tensor.bytes();
        if index + 1 == tensors.len() || sum >= total * (shards.len() + 1) / SHARDS {
            shards.push(&tensors[start..=index]);
            start = index + 1;
        }
    }
    shards
}

/// The format: header length (8 bytes, little-endian), JSON header padded with spaces, tensor data in the header's order.
fn write_shard(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes();
        header.insert(tensor.name.clone(), json!({ "dtype": "BF16", "shape": tensor.shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(HEADER_ALIGNMENT), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(&text)?;
    let mut buffer = vec![0; 1 << 17];
    for tensor in tensors {
        let mut random = blake3::Hasher::new().update(SEED).update(tensor.name.as_bytes()).finalize_xof();
        let mut left = tensor.bytes();
        while left > 0 {
            let part = &mut buffer[..left.min(1 << 17)];
            random.fill(part);
            part.chunks_exact_mut(WIDTH).for_each(make_weight);
            file.write_all(part)?;
            left -= part.len();
        }
    }
    file.flush()
}

/// Random bits become a bfloat16 of an initialised layer: either sign, between 2⁻⁷ and 2⁻⁵.
fn make_weight(bytes: &mut [u8]) {
    bytes[1] = (bytes[1] & 0x80) | 0x3c;
}

fn write_json(path: &Path, value: &Value) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    fs::write(path, text)
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

fn tokenizer() -> Value {
    let special = ["<unk>", "<s>", "</s>"];
    let token = |id: usize| special.get(id).map_or_else(|| format!("token{id:05}"), |text| (*text).to_owned());
    let vocabulary: Map<String, Value> = (0..VOCABULARY).map(|id| (token(id), Value::from(id))).collect();
    let added = special.iter().enumerate().map(|(id, text)| {
        json!({ "id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false })
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    })
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    })
}

fn model_card(total: usize) -> String {
    let mut card =
        String::from("---\nlicense: cc0-1.0\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- demo\n---\n\n");
    card.push_str("# p2pweights demo model\n\n");
    // Writing to a String can't fail.
    let _ = writeln!(card, "A Llama in miniature with random weights: {} parameters in {SHARDS} shards.", total / WIDTH);
    card.push_str("It knows nothing. It is here to travel between the nodes of `p2pweights demo`.\n");
    card
}

const LICENSE: &str = "\
The weights in this folder are pseudo-random numbers.

To the extent possible under law, the authors of p2pweights have waived all copyright and related or neighbouring rights to this
folder under CC0 1.0 Universal: https://creativecommons.org/publicdomain/zero/1.0/
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_all_of_the_model_in_about_equal_parts() {
        let tensors = tensors();
        let total: usize = tensors.iter().map(Tensor::bytes).sum();
        let shards = shards(&tensors, total);
        assert_eq!(shards.len(), SHARDS);
        assert_eq!(shards.iter().map(|shard| shard.len()).sum::<usize>(), tensors.len());
        for shard in shards {
            let bytes: usize = shard.iter().map(Tensor::bytes).sum();
            assert!((total / SHARDS).abs_diff(bytes) < total / 10, "{bytes} of {total}");
        }
    }

    #[test]
    fn a_shard_reads_as_safetensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let tensors = [Tensor { name: "a".to_owned(), shape: vec![3, 5] }, Tensor { name: "b".to_owned(), shape: vec![2] }];
        write_shard(&path, &tensors).unwrap();
        let bytes = fs::read(&path).unwrap();
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        assert_eq!(length % HEADER_ALIGNMENT, 0);
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        assert_eq!(header["b"]["data_offsets"], json!([30, 34]));
        assert_eq!(bytes.len(), 8 + length + 34);
    }
}

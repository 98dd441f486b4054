//! What a model's card says of licence and base model: the few top-level keys of the YAML before its text. The card is one of the model's
//! files, so whoever imports the commit reads the same; what the hub has read in it is only asked where the card was left out. Pure.

use p2pweights_protocol::manifest::{BaseModel, Fields, License, ModelName, RELATIONS, ShardPath, Term};
use serde_json::Value;

/// The file that is a model's card.
pub const CARD: &str = "README.md";
/// What an adapter has, and a model of its own has not.
const ADAPTER: &str = "adapter_config.json";
/// Longest card that is looked at: the keys are at its beginning.
pub const CARD_BYTES: u64 = 1 << 20;

/// Hubs write licences in lower case; their SPDX ids where that is not the only difference would be guesses, so only these are changed.
const SPDX: [&str; 33] = [
    "AFL-3.0",
    "AGPL-3.0",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ECL-2.0",
    "EPL-2.0",
    "EUPL-1.1",
    "GPL-2.0",
    "GPL-3.0",
    "ISC",
    "LGPL-2.1",
    "LGPL-3.0",
    "MIT",
    "MPL-2.0",
    "ODbL-1.0",
    "Unlicense",
    "Zlib",
];

/// Keys of a card, with their values; a list has several.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Card(Vec<(String, Vec<String>)>);

impl Card {
    /// Reads the card's file.
    pub fn of_text(text: &str) -> Self {
        let mut lines = text.trim_start_matches('\u{feff}').lines();
        if lines.next().map(str::trim_end) != Some("---") {
            return Self::default();
        }
        let mut keys: Vec<(String, Vec<String>)> = Vec::new();
        for line in lines.map(str::trim_end).take_while(|line| *line != "---") {
            let item = line.trim_start().strip_prefix("- ");
            if let (Some(item), Some((_, values))) = (item, keys.last_mut()) {
                values.push(scalar(item));
            } else if let Some((key, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '#', '\t'])) {
                let value = value.trim();
                let values = match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                    Some(list) => list.split(',').map(scalar).filter(|item| !item.is_empty()).collect(),
                    None if value.is_empty() => Vec::new(),
                    None => vec![scalar(value)],
                };
                keys.push((key.trim().to_owned(), values));
            }
        }
        Self(keys)
    }

    /// What a hub says of the card, and of the model.
    pub fn of_hub(card: &Value, tags: &[String]) -> Self {
        let texts = |value: &Value| match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let card = card.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), texts(value)));
        let mut keys: Vec<(String, Vec<String>)> = card.collect();
        for tag in tags {
            if let Some(license) = tag.strip_prefix("license:").filter(|_| !keys.iter().any(|(key, _)| key == "license")) {
                keys.push(("license".to_owned(), vec![license.to_owned()]));
            }
        }
        Self(keys)
    }

    fn values(&self, key: &str) -> &[String] {
        self.0.iter().find(|(name, _)| name == key).map_or(&[], |(_, values)| values)
    }

    /// The licence: an SPDX id where the hub's name is one, else the hub's name as SPDX writes such.
    pub fn license(&self) -> Option<License> {
        let named = self.values("license");
        let id = |name: &String| match name.as_str() {
            "other" | "unknown" => self.values("license_name").first().map(|name| reference(name)),
            name => {
                Some(SPDX.iter().find(|id| id.eq_ignore_ascii_case(name)).map_or_else(|| reference(name), |id| (*id).to_owned()))
            }
        };
        let ids: Option<Vec<String>> = named.iter().map(id).collect();
        License::parse(&ids?.join(" AND ")).ok()
    }

    /// What the model of these files is made from, if that is one model.
    pub fn base_model(&self, files: &[ShardPath]) -> Option<BaseModel> {
        let [name] = self.values("base_model") else { return None };
        let said = self.values("base_model_relation").first().map(String::as_str).filter(|said| RELATIONS.contains(said));
        // What hubs assume, too.
        let is_adapter = files.iter().any(|path| path.as_str() == ADAPTER);
        let relation = said.unwrap_or(if is_adapter { "adapter" } else { "finetune" });
        Some(BaseModel { name: ModelName::parse(name).ok()?, relation: Term::parse(relation).ok()?, extra: Fields::new() })
    }
}

/// A value without the quotes or the comment around it.
fn scalar(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or_default().to_owned();
        }
    }
    text.split(" #").next().unwrap_or_default().trim().to_owned()
}

fn reference(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' };
    format!("LicenseRef-{}", name.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn license(card: &Card) -> Option<String> {
        card.license().map(|license| license.as_str().to_owned())
    }

    #[test]
    fn a_card_says_licence_and_base_model() {
        let card = Card::of_text(
            "---\r\nlanguage:\n- en\n- de\nlicense: apache-2.0 # ours\nbase_model:\n  - \"org/base\"\nbase_model_relation: quantized\n---\n# Title\nlicense: mit\n",
        );
        assert_eq!(license(&card).as_deref(), Some("Apache-2.0"));
        let base = card.base_model(&[]).unwrap();
        assert_eq!((base.name.as_str(), base.relation.as_str()), ("org/base", "quantized"));
        let adapter = Card::of_text("---\nbase_model: 'org/base'\nlicense: [mit, \"gpl-3.0\"]\n---");
        assert_eq!(adapter.base_model(&[ADAPTER.parse().unwrap()]).unwrap().relation.as_str(), "adapter");
        assert_eq!(license(&adapter).as_deref(), Some("MIT AND GPL-3.0"));
        for none in ["", "# Title\nlicense: mit\n", "----\nlicense: mit\n"] {
            assert_eq!(Card::of_text(none), Card::default(), "{none:?}");
        }
    }

    #[test]
    fn licences_without_an_id_are_named_as_the_hub_does() {
        let of = |text: &str| license(&Card::of_text(&format!("---\n{text}\n---\n")));
        assert_eq!(of("license: llama3.1").as_deref(), Some("LicenseRef-llama3.1"));
        assert_eq!(of("license: other\nlicense_name: my licence (v2)").as_deref(), Some("LicenseRef-my-licence--v2-"));
        assert_eq!(of("license: other"), None);
        assert_eq!(of("tags: []"), None);
    }

    #[test]
    fn where_there_is_no_card_the_hub_is_believed() {
        let card = serde_json::json!({"base_model": ["a/b"], "license": "cc-by-4.0", "x": {"y": 1}});
        let card = Card::of_hub(&card, &["license:mit".to_owned()]);
        assert_eq!(license(&card).as_deref(), Some("CC-BY-4.0"));
        assert!(card.base_model(&[]).is_some());
        assert_eq!(license(&Card::of_hub(&Value::Null, &["x".to_owned(), "license:mit".to_owned()])).as_deref(), Some("MIT"));
        let two = Card::of_hub(&serde_json::json!({"base_model": ["a/b", "c/d"]}), &[]);
        assert!(two.base_model(&[]).is_none());
    }
}

//! The one way to write a manifest: JSON with keys sorted by bytes, two spaces of indentation, shortest escapes, one newline at the end.
//! `docs/manifest.md` draws it.

use super::error::ManifestError;
use super::reader::line_at;
use super::value::{Fields, Value};
use super::{BaseModel, DEPTH, Metadata, Shard, Source, VALUES, field};
use crate::limits;

/// What a manifest's bytes begin with; the version follows.
pub(super) const MARKER: &str = "{\n  \"!format\": \"p2pweights-manifest/";
/// The format written and read here, as the value of `!format`.
pub(super) const FORMAT: &str = "p2pweights-manifest/1";

/// Something to write as a JSON value.
enum Item<'a> {
    Text(&'a str),
    Hash(String),
    Number(u64),
    True,
    Texts(Vec<&'a str>),
    Object(Vec<(&'a str, Item<'a>)>),
    Shards(&'a [Shard]),
    Value(&'a Value),
}

/// Writes a manifest, or says which bound of the whole it exceeds.
pub(super) fn encode(metadata: &Metadata, shards: &[Shard]) -> Result<Vec<u8>, ManifestError> {
    let mut writer = Writer { text: String::new(), depth: 0, deepest: 0, values: 0 };
    writer.item(&Item::Object(manifest_items(metadata, shards)));
    writer.text.push('\n');
    let bytes = writer.text.len() as u64;
    if bytes > limits::MANIFEST_BYTES {
        return Err(ManifestError::TooLarge { bytes });
    }
    if writer.deepest > DEPTH {
        return Err(ManifestError::TooDeep);
    }
    if writer.values > VALUES {
        return Err(ManifestError::TooManyValues);
    }
    Ok(writer.text.into_bytes())
}

/// Says where bytes differ from their canonical form.
pub(super) fn compare(bytes: &[u8], canonical: &[u8]) -> Result<(), ManifestError> {
    if bytes == canonical {
        return Ok(());
    }
    let same = bytes.iter().zip(canonical).take_while(|(have, want)| have == want).count();
    let problem = "its white space, escapes, order or omissions differ from the canonical form (docs/manifest.md)";
    Err(ManifestError::NotCanonical { line: line_at(bytes, same), problem })
}

fn manifest_items<'a>(metadata: &'a Metadata, shards: &'a [Shard]) -> Vec<(&'a str, Item<'a>)> {
    let mut items = vec![(field::FORMAT, Item::Text(FORMAT)), (field::SHARDS, Item::Shards(shards))];
    let texts = [
        (field::NAME, metadata.name.as_ref().map(|name| name.as_str())),
        (field::REVISION, metadata.revision.as_ref().map(|revision| revision.as_str())),
        (field::LICENSE, metadata.license.as_ref().map(|license| license.as_str())),
        (field::LICENSE_FILE, metadata.license_file.as_ref().map(|path| path.as_str())),
    ];
    items.extend(texts.into_iter().filter_map(|(key, text)| text.map(|text| (key, Item::Text(text)))));
    if metadata.gated {
        items.push((field::GATED, Item::True));
    }
    items.extend(metadata.source.as_ref().map(|source| (field::SOURCE, Item::Object(source_items(source)))));
    items.extend(metadata.base_model.as_ref().map(|base| (field::BASE_MODEL, Item::Object(base_model_items(base)))));
    if !metadata.openness.is_empty() {
        items.push((field::OPENNESS, Item::Texts(metadata.openness.iter().map(|term| term.as_str()).collect())));
    }
    if !metadata.mirrors.is_empty() {
        items.push((field::MIRRORS, Item::Texts(metadata.mirrors.iter().map(|mirror| mirror.as_str()).collect())));
    }
    with_extra(items, &metadata.extra)
}

fn source_items(source: &Source) -> Vec<(&str, Item<'_>)> {
    let items = vec![(field::REPO, Item::Text(source.repo.as_str())), (field::REVISION, Item::Text(source.revision.as_str()))];
    with_extra(items, &source.extra)
}

fn base_model_items(base: &BaseModel) -> Vec<(&str, Item<'_>)> {
    let items = vec![(field::NAME, Item::Text(base.name.as_str())), (field::RELATION, Item::Text(base.relation.as_str()))];
    with_extra(items, &base.extra)
}

fn shard_items(shard: &Shard) -> Vec<(&str, Item<'_>)> {
    let mut items = vec![
        (field::BLAKE3, Item::Hash(shard.blake3().to_string())),
        (field::PATH, Item::Text(shard.path().as_str())),
        (field::SIZE, Item::Number(shard.size())),
    ];
    items.extend(shard.sha256().map(|sha256| (field::SHA256, Item::Hash(sha256.to_string()))));
    items.extend(shard.git_oid().map(|oid| (field::GIT_OID, Item::Hash(oid.to_string()))));
    with_extra(items, shard.extra())
}

fn with_extra<'a>(mut items: Vec<(&'a str, Item<'a>)>, extra: &'a Fields) -> Vec<(&'a str, Item<'a>)> {
    items.extend(extra.iter().map(|(key, value)| (key, Item::Value(value))));
    items.sort_unstable_by_key(|(key, _)| *key);
    items
}

/// JSON text growing at its end.
struct Writer {
    text: String,
    depth: usize,
    deepest: usize,
    values: usize,
}

impl Writer {
    fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::Text(text) => self.text_value(text),
            Item::Hash(hash) => self.text_value(hash),
            Item::Number(number) => self.bare(&number.to_string()),
            Item::True => self.bare("true"),
            Item::Texts(texts) => self.list(texts, |writer, text| writer.text_value(text)),
            Item::Object(items) => self.object(items, Self::item),
            Item::Shards(shards) => self.list(shards, |writer, shard| writer.object(&shard_items(shard), Self::item)),
            Item::Value(value) => self.value(value),
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bare("null"),
            Value::Bool(true) => self.bare("true"),
            Value::Bool(false) => self.bare("false"),
            Value::Integer(number) => self.bare(&number.value().to_string()),
            Value::Text(text) => self.text_value(text),
            Value::List(list) => self.list(list, Self::value),
            Value::Object(fields) => {
                let members: Vec<(&str, &Value)> = fields.iter().collect();
                self.object(&members, |writer, value| writer.value(value));
            }
        }
    }

    fn object<T>(&mut self, members: &[(&str, T)], mut write: impl FnMut(&mut Self, &T)) {
        self.enclosed('{', '}', members, |writer, (key, value)| {
            writer.quoted(key);
            writer.text.push_str(": ");
            write(writer, value);
        });
    }

    fn list<T>(&mut self, entries: &[T], write: impl FnMut(&mut Self, &T)) {
        self.enclosed('[', ']', entries, write);
    }

    fn enclosed<T>(&mut self, open: char, close: char, entries: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.values += 1;
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.text.push(open);
        // Deeper values are refused afterwards; not visiting them keeps the stack bounded.
        let visited = if self.depth <= DEPTH { entries } else { &[] };
        for (index, entry) in visited.iter().enumerate() {
            self.text.push_str(if index == 0 { "" } else { "," });
            self.new_line();
            write(self, entry);
        }
        self.depth -= 1;
        if !entries.is_empty() {
            self.new_line();
        }
        self.text.push(close);
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("  ", self.depth));
    }

    fn bare(&mut self, word: &str) {
        self.values += 1;
        self.text.push_str(word);
    }

    fn text_value(&mut self, text: &str) {
        self.values += 1;
        self.quoted(text);
    }

    fn quoted(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\0'..='\u{1f}' => self.text.push_str(&format!("\\u{:04x}", u32::from(c))),
                _ => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

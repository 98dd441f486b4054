//! From JSON text to the parts of a manifest. Shards are read one by one, so a file with too many stops early.

use std::str::FromStr;

use super::canonical::FORMAT;
use super::error::ManifestError;
use super::reader::Reader;
use super::text::TextError;
use super::value::{Fields, Value};
use super::{BaseModel, Metadata, Shard, ShardPath, Source, field};
use crate::ids::ParseHashError;
use crate::limits;

/// Reads the parts; the caller puts them together, which checks what concerns the whole.
pub(super) fn manifest(bytes: &[u8]) -> Result<(Metadata, Vec<Shard>), ManifestError> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ManifestError::NotAManifest);
    }
    let mut reader = Reader::new(bytes)?;
    let (mut known, mut fields, mut shards) = (false, Fields::new(), None);
    reader.object(|reader, key| {
        if !known {
            known = true;
            return format(&key, reader);
        }
        if key == field::SHARDS && reader.next_byte() == Some(b'[') {
            shards = Some(shard_list(reader)?);
            return Ok(());
        }
        let value = reader.value()?;
        fields.push(key, value);
        Ok(())
    })?;
    if !known {
        return Err(ManifestError::NotAManifest);
    }
    reader.end()?;
    let object = Object { fields, line: 1 };
    if let Some(value) = object.fields.value(field::SHARDS) {
        return Err(object.wrong(field::SHARDS, "a list", value));
    }
    let shards = shards.ok_or_else(|| object.missing(field::SHARDS))?;
    Ok((metadata(object)?, shards))
}

fn format(key: &str, reader: &mut Reader<'_>) -> Result<(), ManifestError> {
    if key != field::FORMAT {
        return Err(ManifestError::NotAManifest);
    }
    match reader.value()? {
        Value::Text(text) if text == FORMAT => Ok(()),
        Value::Text(text) => Err(ManifestError::UnsupportedVersion(super::path::excerpt(&text))),
        _ => Err(ManifestError::NotAManifest),
    }
}

fn shard_list(reader: &mut Reader<'_>) -> Result<Vec<Shard>, ManifestError> {
    let mut shards = Vec::new();
    reader.list(|reader| {
        if shards.len() == limits::MANIFEST_FILES {
            return Err(ManifestError::TooManyShards);
        }
        let line = reader.line();
        let value = reader.value()?;
        let Value::Object(fields) = value else {
            return Err(Object { fields: Fields::new(), line }.wrong(field::SHARDS, "a list of objects", &value));
        };
        shards.push(shard(Object { fields, line })?);
        Ok(())
    })?;
    Ok(shards)
}

fn shard(mut object: Object) -> Result<Shard, ManifestError> {
    let path: ShardPath = object.needed_text(field::PATH)?.parse()?;
    let size = object.needed_size()?;
    let blake3 = object.hash(field::BLAKE3)?.ok_or_else(|| object.missing(field::BLAKE3))?;
    let sha256 = object.hash(field::SHA256)?;
    let git_oid = object.hash(field::GIT_OID)?;
    Shard::new(path, size, blake3, sha256)?.with_git_oid(git_oid).with_extra(object.fields)
}

fn metadata(mut object: Object) -> Result<Metadata, ManifestError> {
    Ok(Metadata {
        name: object.parsed(field::NAME)?,
        revision: object.parsed(field::REVISION)?,
        license: object.parsed(field::LICENSE)?,
        license_file: object.text(field::LICENSE_FILE)?.map(|text| ShardPath::parse(&text)).transpose()?,
        gated: object.flag(field::GATED)?,
        source: object.object(field::SOURCE)?.map(source).transpose()?,
        base_model: object.object(field::BASE_MODEL)?.map(base_model).transpose()?,
        openness: object.texts(field::OPENNESS, super::COMPONENTS_LISTED)?.into_iter().collect(),
        mirrors: object.texts(field::MIRRORS, super::MIRRORS)?,
        extra: object.fields,
    })
}

fn source(mut object: Object) -> Result<Source, ManifestError> {
    Ok(Source { repo: object.needed(field::REPO)?, revision: object.needed(field::REVISION)?, extra: object.fields })
}

fn base_model(mut object: Object) -> Result<BaseModel, ManifestError> {
    Ok(BaseModel { name: object.needed(field::NAME)?, relation: object.needed(field::RELATION)?, extra: object.fields })
}

/// An object whose known fields are taken out one by one; what remains is unknown.
struct Object {
    fields: Fields,
    line: usize,
}

impl Object {
    fn missing(&self, field: &'static str) -> ManifestError {
        ManifestError::MissingField { line: self.line, field }
    }

    fn wrong(&self, field: &'static str, expected: &'static str, found: &Value) -> ManifestError {
        ManifestError::WrongType { line: self.line, field, expected, found: found.kind() }
    }

    fn text(&mut self, field: &'static str) -> Result<Option<String>, ManifestError> {
        match self.fields.remove(field) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(field, "a text", &other)),
        }
    }

    fn needed_text(&mut self, field: &'static str) -> Result<String, ManifestError> {
        self.text(field)?.ok_or_else(|| self.missing(field))
    }

    fn parsed<T: FromStr<Err = TextError>>(&mut self, field: &'static str) -> Result<Option<T>, ManifestError> {
        let parse = |text: String| text.parse().map_err(|source| ManifestError::Text { field, source });
        self.text(field)?.map(parse).transpose()
    }

    fn needed<T: FromStr<Err = TextError>>(&mut self, field: &'static str) -> Result<T, ManifestError> {
        self.parsed(field)?.ok_or_else(|| self.missing(field))
    }

    fn hash<T: FromStr<Err = ParseHashError>>(&mut self, field: &'static str) -> Result<Option<T>, ManifestError> {
        let parse = |text: String| text.parse().map_err(|source| ManifestError::Hash { field, source });
        self.text(field)?.map(parse).transpose()
    }

    fn needed_size(&mut self) -> Result<u64, ManifestError> {
        let value = self.fields.remove(field::SIZE).ok_or_else(|| self.missing(field::SIZE))?;
        let size = match &value {
            Value::Integer(number) => u64::try_from(number.value()).ok(),
            _ => None,
        };
        size.ok_or_else(|| self.wrong(field::SIZE, "a number of bytes", &value))
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, ManifestError> {
        match self.fields.remove(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(field, "true or false", &other)),
        }
    }

    fn object(&mut self, field: &'static str) -> Result<Option<Self>, ManifestError> {
        match self.fields.remove(field) {
            None => Ok(None),
            // The line of the object around it: the exact one is not worth keeping for every value.
            Some(Value::Object(fields)) => Ok(Some(Self { fields, line: self.line })),
            Some(other) => Err(self.wrong(field, "an object", &other)),
        }
    }

    /// A list of distinct texts.
    fn texts<T>(&mut self, field: &'static str, limit: usize) -> Result<Vec<T>, ManifestError>
    where
        T: FromStr<Err = TextError> + Ord + Clone + Into<String>,
    {
        let list = match self.fields.remove(field) {
            None => return Ok(Vec::new()),
            Some(Value::List(list)) => list,
            Some(other) => return Err(self.wrong(field, "a list", &other)),
        };
        if list.len() > limit {
            return Err(ManifestError::TooManyEntries { field, limit });
        }
        let mut entries = Vec::new();
        for value in list {
            let Value::Text(text) = value else { return Err(self.wrong(field, "a list of texts", &value)) };
            entries.push(text.parse().map_err(|source| ManifestError::Text { field, source })?);
        }
        super::distinct(field, &entries)?;
        Ok(entries)
    }
}

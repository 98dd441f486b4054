//! The config file: TOML to keys, texts and line numbers. What a text means is not known here.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Key;
use crate::failure::CommandError;

/// A setting as it stands in a file.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub key: Key,
    /// Its values.
    pub texts: Vec<String>,
    /// Its line, counted from 1.
    pub line: usize,
}

/// Reads a config file; `None` if it is not there and need not be.
pub fn read(path: &Path, required: bool) -> Result<Option<Vec<Entry>>, CommandError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && !required => return Ok(None),
        Err(error) => return Err(CommandError::usage(format!("cannot read config file {}: {error}", path.display()))),
    };
    parse(&text).map(Some).map_err(|fault| {
        let message = format!("config file {}, line {}: {}", path.display(), fault.line, fault.message);
        let error = CommandError::usage(message);
        match fault.hint {
            Some(hint) => error.or_hint(hint),
            None => error,
        }
    })
}

#[derive(Debug)]
struct Fault {
    line: usize,
    message: String,
    hint: Option<String>,
}

fn parse(text: &str) -> Result<Vec<Entry>, Fault> {
    let line_at = |offset: usize| text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| Fault {
        line: line_at(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
        hint: None,
    })?;
    let mut entries = Vec::new();
    collect(table.get_ref(), "", &line_at, &mut entries)?;
    Ok(entries)
}

fn collect(table: &DeTable<'_>, prefix: &str, line_at: &impl Fn(usize) -> usize, entries: &mut Vec<Entry>) -> Result<(), Fault> {
    for (name, value) in table {
        let full = format!("{prefix}{}", name.get_ref());
        let line = line_at(name.span().start);
        if let (None, DeValue::Table(inner)) = (Key::named(&full), value.get_ref()) {
            let inner_prefix = format!("{full}.");
            if Key::ALL.iter().any(|key| key.name().starts_with(&inner_prefix)) {
                collect(inner, &inner_prefix, line_at, entries)?;
                continue;
            }
        }
        let key = Key::named(&full).ok_or_else(|| Fault {
            line,
            message: format!("unknown key `{full}`"),
            hint: Some(format!("the nearest known key is `{}`; all of them: {}", Key::nearest(&full).name(), all_names())),
        })?;
        let read = match value.get_ref() {
            DeValue::Table(inner) if key.is_table() => {
                inner.iter().map(|(name, value)| Ok(format!("{}={}", name.get_ref(), scalar(value)?))).collect()
            }
            _ => texts(value),
        };
        let texts = read.map_err(|kind| Fault { line, message: format!("`{full}` can't be {kind}"), hint: None })?;
        entries.push(Entry { key, texts, line });
    }
    Ok(())
}

fn texts(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, &'static str> {
    match value.get_ref() {
        DeValue::Array(items) => items.iter().map(scalar).collect(),
        _ => Ok(vec![scalar(value)?]),
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Result<String, &'static str> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Ok(switch.to_string()),
        DeValue::Float(_) => Err("a fraction"),
        DeValue::Datetime(_) => Err("a date"),
        DeValue::Array(_) => Err("an array of arrays"),
        DeValue::Table(_) => Err("a table"),
    }
}

fn all_names() -> String {
    Key::ALL.map(Key::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_know_their_lines() {
        let entries =
            parse("# ours\nnetwork = \"lab\"\nlisten = [\n  \"a\",\n  \"b\",\n]\n\n[storage]\nreserve = \"1GiB\"\n").unwrap();
        let mut seen: Vec<_> = entries.iter().map(|entry| (entry.line, entry.key.name(), entry.texts.join("+"))).collect();
        seen.sort();
        assert_eq!(
            seen,
            [(2, "network", "lab".to_owned()), (3, "listen", "a+b".to_owned()), (9, "storage.reserve", "1GiB".to_owned())]
        );
    }

    #[test]
    fn a_table_of_names_is_one_setting() {
        let entries = parse("[gateway.models]\n\"org/m\" = \"aa\"\n\"org/m@v1.0\" = \"bb\"\n").unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].key, entries[0].texts.join(" ")), (Key::GatewayModels, "org/m=aa org/m@v1.0=bb".to_owned()));
        assert_eq!(parse("[gateway.models]\nx = { y = 1 }\n").unwrap_err().message, "`gateway.models` can't be a table");
    }

    #[test]
    fn faults_name_line_and_key() {
        let fault = parse("mdns = true\nbootstraps = []\n").unwrap_err();
        assert_eq!((fault.line, fault.message.as_str()), (2, "unknown key `bootstraps`"));
        assert!(fault.hint.unwrap().contains("`bootstrap`"));
        assert_eq!(parse("[storage]\n\nreserved = 1\n").unwrap_err().message, "unknown key `storage.reserved`");
        assert_eq!(parse("mdns = true\nnetwork = \n").unwrap_err().line, 2);
        assert_eq!(parse("network = 1.5\n").unwrap_err().message, "`network` can't be a fraction");
    }
}

//! Where in a file something stands: from a path of keys to a line, and from a place in the text to the key around it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One step into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into the value of a key.
    Key(String),
    /// Into a list.
    Item(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<usize> for Step {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

/// The path's keys as one reads them, without places in lists: the line says which.
pub fn key_of(path: &[Step]) -> String {
    let keys = path.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None });
    keys.collect::<Vec<_>>().join(".")
}

/// The line of a place in a text, counted from 1.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Where the last step of a path that exists begins.
pub fn offset_of(root: &DeTable<'_>, path: &[Step]) -> usize {
    let mut found = 0;
    let mut table = Some(root);
    let mut list: Option<&[Spanned<DeValue<'_>>]> = None;
    for step in path {
        let value = match step {
            Step::Key(key) => {
                let entry = table.and_then(|table| table.get_key_value(key.as_str()));
                let Some((name, value)) = entry else { return found };
                // An array of tables has no place of its own but its first item's.
                found = name.span().start;
                value
            }
            Step::Item(item) => {
                let Some(value) = list.and_then(|list| list.get(*item)) else { return found };
                found = value.span().start;
                value
            }
        };
        table = value.get_ref().as_table();
        list = value.get_ref().as_array().map(|array| &array[..]);
    }
    found
}

/// The keys around a place in the text.
pub fn path_at(root: &DeTable<'_>, place: usize) -> Vec<Step> {
    let mut path = Vec::new();
    into_table(root, place, &mut path);
    path
}

fn holds(span: &Range<usize>, place: usize) -> bool {
    span.contains(&place) || span.start == place
}

fn into_table(table: &DeTable<'_>, place: usize, path: &mut Vec<Step>) -> bool {
    for (name, value) in table {
        path.push(Step::Key(name.get_ref().to_string()));
        if into_value(value, place, path) || holds(&name.span(), place) || holds(&value.span(), place) {
            return true;
        }
        path.pop();
    }
    false
}

/// A table's own span may be its header alone, so what is in it is looked at whatever its span.
fn into_value(value: &Spanned<DeValue<'_>>, place: usize, path: &mut Vec<Step>) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => into_table(table, place, path),
        DeValue::Array(items) => items.iter().enumerate().any(|(index, item)| {
            path.push(Step::Item(index));
            let here = into_value(item, place, path) || holds(&item.span(), place);
            if !here {
                path.pop();
            }
            here
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a = 1\n\n[[group]]\nname = 'x'\nup = 2\n\n[[group]]\nname = 'y'\nwho = { share = 3 }\n[expect]\nb.c = 4\n";

    #[test]
    fn paths_have_lines_and_places_have_keys() {
        let table = DeTable::parse(TEXT).unwrap().into_inner();
        let line = |path: &[Step]| line_at(TEXT, offset_of(&table, path));
        assert_eq!(line(&["a".into()]), 1);
        assert_eq!(line(&["group".into(), 0.into(), "up".into()]), 5);
        assert_eq!(line(&["group".into(), 1.into()]), 7);
        assert_eq!(line(&["group".into(), 1.into(), "who".into(), "share".into()]), 9);
        assert_eq!(line(&["group".into(), 1.into(), "missing".into()]), 7);
        assert_eq!(line(&["expect".into(), "b".into(), "c".into()]), 11);
        let key = |text: &str| key_of(&path_at(&table, TEXT.find(text).unwrap()));
        assert_eq!([key("2\n"), key("3 }"), key("4\n"), key("'y'")], ["group.up", "group.who.share", "expect.b.c", "group.name"]);
    }
}

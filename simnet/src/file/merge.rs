//! The short form of a scenario: what stands under `[short]` is laid over the rest. Tables are merged key by key; sites and groups are
//! found by their names, and what is said of them changes them; any other list takes the place of the one before it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Lays one table over another.
pub fn lay_over<'i>(base: &mut DeTable<'i>, over: DeTable<'i>) {
    for (key, value) in over {
        match (base.get_mut(key.get_ref().as_ref()), value.get_ref()) {
            (Some(below), DeValue::Table(_) | DeValue::Array(_)) => lay_value_over(below, value),
            _ => {
                // The key's place goes with the value: an error names the line that caused it.
                base.remove(key.get_ref().as_ref());
                base.insert(key, value);
            }
        }
    }
}

fn lay_value_over<'i>(below: &mut Spanned<DeValue<'i>>, over: Spanned<DeValue<'i>>) {
    match (below.get_mut(), over.get_ref()) {
        (DeValue::Table(table), DeValue::Table(more)) => return lay_over(table, more.clone()),
        (DeValue::Array(list), DeValue::Array(more)) if more.iter().all(|item| name_of(item).is_some()) => {
            for item in more.clone() {
                match list.iter_mut().find(|known| name_of(known) == name_of(&item)) {
                    Some(known) => lay_value_over(known, item),
                    None => list.push(item),
                }
            }
            return;
        }
        _ => (),
    }
    *below = over;
}

fn name_of<'a>(item: &'a Spanned<DeValue<'_>>) -> Option<&'a str> {
    item.get_ref().as_table()?.get("name")?.get_ref().as_str()
}

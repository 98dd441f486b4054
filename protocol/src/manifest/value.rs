//! JSON values as the format allows them: exact integers, no floats, objects sorted by key. Knows no field by name.

/// Largest integer magnitude: above 2^53 other people's JSON loses digits.
const INTEGER_MAX: u64 = 1 << 53;

/// An integer of magnitude up to 2^53, which every JSON reader keeps exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integer(i64);

impl Integer {
    /// The integer, or `None` when it is too large to be exact everywhere.
    pub fn new(value: i64) -> Option<Self> {
        (value.unsigned_abs() <= INTEGER_MAX).then_some(Self(value))
    }

    /// Its value.
    pub fn value(self) -> i64 {
        self.0
    }
}

/// Any JSON value that can stand in an unknown field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Integer(Integer),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Object(Fields),
}

impl Value {
    /// What kind of value this is, for error texts.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The members of an object, sorted by the bytes of their keys, each key once.
// A sorted vector, not a tree: a tree's nodes would let 40 bytes of hostile text cost 600 bytes of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, Value)>);

impl Fields {
    /// No members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a member.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.position(key).ok().map(|index| &self.0[index].1)
    }

    /// Sets a member; returns the value it had.
    pub fn insert(&mut self, key: &str, value: Value) -> Option<Value> {
        match self.position(key) {
            Ok(index) => Some(std::mem::replace(&mut self.0[index].1, value)),
            Err(index) => {
                self.0.insert(index, (key.to_owned(), value));
                None
            }
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.position(key).ok().map(|index| self.0.remove(index).1)
    }

    /// Adds a member whose key is known to come after all others.
    pub(super) fn push(&mut self, key: String, value: Value) {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < key), "the reader refuses keys out of order");
        self.0.push((key, value));
    }

    /// Gives back memory that reading reserved in advance.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| have.as_str().cmp(key))
    }
}

impl FromIterator<(String, Value)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let mut fields = Self::new();
        for (key, value) in members {
            fields.insert(&key, value);
        }
        fields
    }
}

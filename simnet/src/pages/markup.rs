//! Text inside of HTML and SVG.

/// A text as content or as an attribute's value between double quotes. Control characters, which XML cannot hold, are replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(char),
            other => escaped.push(printable(other)),
        }
    }
    escaped
}

/// The character, or the sign for one that cannot be shown.
pub fn printable(char: char) -> char {
    // The two that are no characters may not be in XML either.
    if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { char }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_gets_out_of_a_text() {
        assert_eq!(
            super::escape("<b class=\"x\">'&'\u{1}</b>"),
            "&lt;b class=&quot;x&quot;&gt;&#39;&amp;&#39;\u{fffd}&lt;/b&gt;"
        );
    }
}

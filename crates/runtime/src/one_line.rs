//! Text of others on one line: nothing in it ends the line, steers a terminal or hides.

use std::borrow::Cow;

/// The text with every character escaped that is not seen as what it is.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_plain(c) {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
    }
    Cow::Owned(line)
}

/// Whether a character controls no terminal, ends no line anywhere, turns no direction of text, and has a width.
fn is_plain(c: char) -> bool {
    let hides = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["", "phi/1", "größe \"a\" \\ 患者 👩‍⚕", "e\u{301}"] {
            let shown = one_line(text).replace("\\u{200d}", "\u{200d}");
            assert_eq!(shown, text);
        }
    }

    #[test]
    fn whatever_ends_a_line_steers_or_hides_is_escaped() {
        let text = "a\nb\r\u{85}\u{2028}c\u{1b}[2J\u{202e}d\u{200b}\u{0}\u{9b}\t";
        let shown = one_line(text);
        assert_eq!(
            shown,
            "a\\nb\\r\\u{85}\\u{2028}c\\u{1b}[2J\\u{202e}d\\u{200b}\\u{0}\\u{9b}\\t"
        );
        assert!(shown.chars().all(is_plain));
    }
}

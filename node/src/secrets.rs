//! Keeps private keys out of the output. An error quotes the text that it is about, and that text
//! may be a key: a key file named where a charter belongs, a secret pasted where an id belongs.

use std::borrow::Cow;

/// Hexadecimal digits in a row that may be a key or a part of one. Ids of peers have other letters.
/// A text of this length that is no key is hidden as well, which costs a quotation.
const DIGITS_MIN: usize = 32;
/// Letters of a line that is nothing but encoded bytes (base64 of 32 bytes has 43).
const ENCODED_MIN: usize = 40;
/// A mark that other programs' key files contain.
const MARKER: &str = "PRIVATE KEY";
/// The text that is shown instead.
const HIDDEN: &str = "(not shown: it looks like a key)";

/// Whether a text holds what may be a private key.
pub(crate) fn looks_secret(text: &str) -> bool {
    let encoded = |line: &str| {
        let line = line.trim();
        line.len() >= ENCODED_MIN
            && line
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte))
    };
    text.contains(MARKER)
        || text.lines().any(encoded)
        || runs(text).any(|(_, length)| length >= DIGITS_MIN)
}

/// The text without what may be a private key.
pub(crate) fn redacted(text: &str) -> Cow<'_, str> {
    if !looks_secret(text) {
        return Cow::Borrowed(text);
    }
    if text.contains(MARKER) {
        return Cow::Borrowed(HIDDEN);
    }
    let mut shown = String::new();
    let mut rest = 0;
    for (start, length) in runs(text).filter(|(_, length)| *length >= DIGITS_MIN) {
        shown.push_str(&text[rest..start]);
        shown.push_str(HIDDEN);
        rest = start + length;
    }
    if rest == 0 {
        return Cow::Borrowed(HIDDEN);
    }
    shown.push_str(&text[rest..]);
    Cow::Owned(shown)
}

/// Start and length of every run of hexadecimal digits.
fn runs(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut place = 0;
    text.split(|letter: char| !letter.is_ascii_hexdigit())
        .filter_map(move |run| {
            let start = place;
            // The letter that ended the run may be longer than a byte.
            place += run.len()
                + text[start + run.len()..]
                    .chars()
                    .next()
                    .map_or(0, char::len_utf8);
            (!run.is_empty()).then_some((start, run.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    #[test]
    fn no_part_of_a_key_is_left() {
        for text in [
            KEY.to_owned(),
            format!("  {KEY}\n"),
            KEY.to_uppercase(),
            KEY[..40].to_owned(),
            format!("key = \"{KEY}\""),
            format!("unknown key {KEY:?}, größe {KEY}ß"),
            format!("{KEY}{KEY}"),
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n".to_owned(),
            "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n".to_owned(),
        ] {
            assert!(looks_secret(&text), "{text}");
            let shown = redacted(&text);
            for part in [
                &KEY[..16],
                &KEY.to_uppercase()[..16],
                &KEY[24..40],
                "b3BlbnNz",
                "nWGxne",
            ] {
                assert!(!shown.contains(part), "{part} in {shown}");
            }
            assert!(shown.contains("not shown"), "{shown}");
        }
        assert_eq!(redacted(&format!("a {KEY} b")), format!("a {HIDDEN} b"));
    }

    #[test]
    fn what_people_write_is_left_as_it_is() {
        for text in [
            "name = \"ada\"\nkey = \"12D3KooWQ7fCkJtKpTqTqGk3p9wZzJmYkJ7uFq3K1mXb2rU5cVdE\"\n",
            "unknown key \"colour\"; known: name, charter",
            "line 3, column 10: größer als 2",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}

//! Short text forms of a charter's sections: `random-regular:5`, `top-k:0.06`, `mlp:128,64`,
//! `k:key=value,…`.

use kith_consensus::registry::short_form;
use kith_consensus::topology::TOPOLOGIES;
use kith_gossip::codec::CODECS;
use kith_models::MODELS;
use toml::{Table, Value};

/// The section `[topology]` of a text.
///
/// # Errors
/// What was not understood.
pub(crate) fn topology(text: &str) -> Result<Table, String> {
    section("topology", text, |name| TOPOLOGIES.get(name)?.main_key)
}

/// The section `[codec]` of a text.
///
/// # Errors
/// What was not understood.
pub(crate) fn codec(text: &str) -> Result<Table, String> {
    section("codec", text, |name| CODECS.get(name)?.main_key)
}

/// The section `[model]` of a text.
///
/// # Errors
/// What was not understood.
pub(crate) fn model(text: &str) -> Result<Table, String> {
    section("model", text, |name| MODELS.get(name)?.main_key)
}

/// Names and numbers only; the charter's readers decide whether they fit.
fn section(
    what: &str,
    text: &str,
    main_key: impl Fn(&str) -> Option<&'static str>,
) -> Result<Table, String> {
    let (name, values) = short_form(text);
    let mut table = Table::from_iter([("kind".to_owned(), Value::String(name.to_owned()))]);
    let mut last: Option<&str> = None;
    for (key, value) in values {
        // A further number belongs to the key before it: hidden=128,64.
        let key = key.or(last).or_else(|| main_key(name)).ok_or_else(|| {
            let expected = format!("expected {name}:key=value, found {text:?}");
            format!("{what} {name:?} has no main parameter; {expected}")
        })?;
        let value = scalar(value).ok_or_else(|| {
            format!("{what} {text:?}: expected a value for {key}, found {value:?}")
        })?;
        match table.get_mut(key) {
            None => drop(table.insert(key.to_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.clone(), value]),
        }
        last = Some(key);
    }
    for key in ["hidden", "channels"] {
        let Some(list) = table.get_mut(key) else {
            continue;
        };
        if !list.is_array() {
            *list = Value::Array(vec![list.clone()]);
        }
    }
    Ok(table)
}

fn scalar(text: &str) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    let number = || {
        text.parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .map(Value::Float)
    };
    let flag = || text.parse().ok().map(Value::Boolean);
    Some(
        text.parse()
            .ok()
            .map(Value::Integer)
            .or_else(number)
            .or_else(flag)
            .unwrap_or_else(|| Value::String(text.to_owned())),
    )
}

/// `KEY=VALUE` of `--param`, in TOML's notation if it is that, otherwise as a text.
///
/// # Errors
/// When there is no `=`.
pub(crate) fn parameter(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("expected KEY=VALUE, found {text:?}"))?;
    let is_toml = toml::from_str::<Table>(&format!("value = {value}")).is_ok();
    Ok((
        key.to_owned(),
        if is_toml {
            value.to_owned()
        } else {
            Value::String(value.to_owned()).to_string()
        },
    ))
}

/// A seed within the range of a file's whole numbers: a larger one could not be written into the
/// file that replays the run.
///
/// # Errors
/// When the text is not a whole number from 0 to 2⁶³ − 1.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    let seed = text.parse().ok().filter(|seed| *seed <= i64::MAX as u64);
    seed.ok_or_else(|| format!("expected an integer from 0 to {}, found {text:?}", i64::MAX))
}

/// One word of a shell: unchanged if it needs no quotes, otherwise in single quotes.
pub(crate) fn shell_word(text: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_./:,+@%=".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_sections() {
        assert_eq!(
            topology("random-regular:5").unwrap().to_string().trim(),
            "degree = 5\nkind = \"random-regular\""
        );
        assert_eq!(codec("top-k:0.06").unwrap()["share"], Value::Float(0.06));
        assert_eq!(
            model("mlp:32").unwrap()["hidden"],
            Value::Array(vec![Value::Integer(32)])
        );
        assert_eq!(
            model("mlp:128,64").unwrap()["hidden"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            topology("torus:rows=2,columns=4").unwrap()["columns"],
            Value::Integer(4)
        );
        assert_eq!(topology("ring").unwrap().len(), 1);
        for (text, key) in [
            ("base-k:2", "k"),
            ("small-world:4", "degree"),
            ("epidemic-local:3", "s"),
            ("hierarchical:3", "clusters"),
        ] {
            assert!(topology(text).unwrap()[key].is_integer(), "{text}");
        }
        assert!(
            topology("ring:5")
                .unwrap_err()
                .contains("no main parameter")
        );
        assert!(
            codec("top-k:")
                .unwrap_err()
                .contains("expected a value for share")
        );
    }

    #[test]
    fn a_seed_fits_into_a_file() {
        assert_eq!(
            (seed("0"), seed("9223372036854775807")),
            (Ok(0), Ok(i64::MAX as u64))
        );
        for text in ["9223372036854775808", "18446744073709551616", "-1", "one"] {
            assert!(seed(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn a_shell_reads_one_word() {
        for (text, word) in [
            ("results/a-1_b.toml", "results/a-1_b.toml"),
            ("a b.toml", "'a b.toml'"),
            ("it's.toml", "'it'\\''s.toml'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
            ("größe.toml", "'größe.toml'"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn parameters_are_toml_or_text() {
        assert_eq!(
            parameter("weights=[1.0, 2.0]").unwrap(),
            ("weights".to_owned(), "[1.0, 2.0]".to_owned())
        );
        assert_eq!(parameter("variant=blanchard").unwrap().1, "\"blanchard\"");
        assert!(parameter("m").is_err());
    }
}

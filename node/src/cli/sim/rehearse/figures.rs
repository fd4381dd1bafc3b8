//! Means, and shares in words for people.

pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// A share for people.
pub(super) fn percent(value: f64) -> String {
    format!("{} %", number(value))
}

/// A share for people, or a dash if there is none.
pub(super) fn share(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), percent)
}

/// Hundredths for people, without a sign if they round to zero.
pub(super) fn number(value: f64) -> String {
    let text = format!("{:.1}", 100.0 * value);
    if text == "-0.0" {
        "0.0".to_owned()
    } else {
        text
    }
}

//! Medians and percentiles.

use std::time::Duration;

/// How long many things took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// In whatever order.
    #[must_use]
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Milliseconds within which so many in a thousand were done; 0 if there are none.
    #[must_use]
    pub(crate) fn at(&self, permille: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let time = self.0.get(last * permille / 1000);
        let micros = time.copied().unwrap_or_default().as_micros();
        float(u64::try_from(micros).unwrap_or(u64::MAX)) / 1e3
    }
}

/// The middle one, or the mean of the two in the middle.
#[must_use]
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(middle - 1)?, upper))
}

/// As a float, which is exact for whatever is counted here.
#[must_use]
#[expect(clippy::cast_precision_loss)]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn percentiles_are_of_what_is_there() {
        let times = Times::of((1..=1001).rev().map(Duration::from_millis).collect());
        let told = [0, 500, 1000].map(|permille| Some(times.at(permille)));
        assert_eq!(told, [Some(1.0), Some(501.0), Some(1001.0)]);
        assert_eq!(Some(Times::default().at(500)), Some(0.0));
    }
}

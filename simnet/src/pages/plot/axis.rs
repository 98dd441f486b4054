//! From figures to pixels, and where the grid lies.

/// How figures are laid along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Law {
    Linear,
    /// Equal steps are equal factors.
    Log,
    /// The same for 1 + the figure: from 0 on.
    LogFromZero,
}

/// An axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    law: Law,
    low: f64,
    high: f64,
    /// Where `low` lies, in pixels.
    from: f64,
    /// Where `high` lies.
    to: f64,
}

impl Axis {
    /// Equal steps.
    pub fn linear(low: f64, high: f64) -> Self {
        Self::new(Law::Linear, low, high)
    }

    /// Equal factors; both ends are above 0.
    pub fn log(low: f64, high: f64) -> Self {
        Self::new(Law::Log, low.max(1e-9), high)
    }

    /// Equal factors of 1 + the figure, from 0.
    pub fn log_from_zero(high: f64) -> Self {
        Self::new(Law::LogFromZero, 0.0, high)
    }

    fn new(law: Law, low: f64, high: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { law, low, high, from: 0.0, to: 1.0 }
    }

    /// The same axis, laid between two places.
    pub fn laid(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    /// Where it begins and ends, in pixels.
    pub fn ends(&self) -> (f64, f64) {
        (self.from, self.to)
    }

    /// The figures at its ends.
    pub fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Where a figure lies. What lies outside is put on the edge.
    pub fn at(&self, figure: f64) -> f64 {
        let measure = |figure: f64| match self.law {
            Law::Linear => figure,
            Law::Log => figure.ln(),
            Law::LogFromZero => (1.0 + figure).ln(),
        };
        let (low, high) = (measure(self.low), measure(self.high));
        let share = (measure(figure.clamp(self.low, self.high)) - low) / (high - low);
        self.from + (self.to - self.from) * share
    }

    /// Round figures for so many grid lines, about.
    pub fn ticks(&self, about: usize) -> Vec<f64> {
        let ticks: Vec<f64> = match self.law {
            Law::Linear => {
                let step = round_step((self.high - self.low) / about.max(1) as f64);
                let first = (self.low / step - 1e-6).ceil() as i64;
                let last = (self.high / step + 1e-6).floor() as i64;
                // Steps are round in decimal: divided by a whole number they stay so.
                (first..=last).map(|index| rounded(index as f64 * step)).collect()
            }
            Law::Log | Law::LogFromZero => {
                let decades = (self.high.max(1.0) / self.low.max(1.0)).log10();
                let lines = |a_decade: f64| decades * a_decade <= about as f64 + 1.0;
                let fine: &[f64] = match () {
                    () if decades < 1.1 && self.law == Law::Log => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
                    () if lines(3.0) => &[1.0, 2.0, 5.0],
                    () if lines(2.0) => &[1.0, 3.0],
                    () => &[1.0],
                };
                let every = if decades > about as f64 { 2 } else { 1 };
                let zero = (self.law == Law::LogFromZero).then_some(0.0);
                let powers = (0..12).step_by(every).flat_map(|power| fine.iter().map(move |step| step * 10f64.powi(power)));
                zero.into_iter().chain(powers).collect()
            }
        };
        ticks.into_iter().filter(|tick| (self.low - 1e-9..=self.high * (1.0 + 1e-9)).contains(tick)).collect()
    }
}

/// The next of 1, 2, 5, 10, … times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * 0.999);
    power * factor.unwrap_or(10.0)
}

fn rounded(figure: f64) -> f64 {
    (figure * 1e9).round() / 1e9
}

/// A tick as text: as many decimals as the ticks need.
pub fn tick_label(tick: f64, ticks: &[f64]) -> String {
    let whole =
        |digits: i32| ticks.iter().all(|tick| ((tick * 10f64.powi(digits)).round() / 10f64.powi(digits) - tick).abs() < 1e-7);
    let digits = (0..4).find(|digits| whole(*digits)).unwrap_or(4) as usize;
    if digits == 0 { crate::pages::figures::count(tick.max(0.0) as u64) } else { format!("{tick:.digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(Axis::linear(0.9, 1.1).ticks(5), [0.9, 0.95, 1.0, 1.05, 1.1]);
        assert_eq!(Axis::linear(0.0, 87.3).ticks(5), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(Axis::log(0.9, 6.4).ticks(6), [1.0, 1.5, 2.0, 3.0, 5.0]);
        assert_eq!(Axis::log_from_zero(34.0).ticks(3), [0.0, 1.0, 3.0, 10.0, 30.0]);
        assert_eq!(Axis::log_from_zero(1000.0).ticks(4), [0.0, 1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(tick_label(0.95, &[0.9, 0.95]), "0.95");
        assert_eq!(tick_label(1000.0, &[0.0, 1000.0]), "1,000");
    }

    #[test]
    fn figures_outside_lie_on_the_edge() {
        let axis = Axis::log(1.0, 100.0).laid(0.0, 200.0);
        assert_eq!([axis.at(0.1), axis.at(10.0), axis.at(1e9)], [0.0, 100.0, 200.0]);
        assert_eq!(Axis::linear(3.0, 3.0).laid(0.0, 1.0).at(3.0), 0.0);
    }
}

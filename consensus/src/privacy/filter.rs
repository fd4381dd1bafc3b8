//! A budget for releases that are chosen on the way: after looking at earlier ones, by an amendment,
//! or by several federations that share rows. The filter of Feldman and Zrnic 2021, arXiv 2008.11193: as long as the costs *at one order that is fixed beforehand* stay within the budget at
//! that order, the whole sequence has the guarantee. The smallest ε over several orders would not,
//! on an adaptive path; neither do privacy loss distributions.

use libm::{log, log1p};

use super::{Delta, Epsilon, Phase, PrivacyError, rdp};

/// What has been spent of a budget at one Rényi order.
#[derive(Clone, Debug, PartialEq)]
pub struct RdpFilter {
    order: f64,
    budget: f64,
    spent: f64,
    delta: Delta,
}

impl RdpFilter {
    /// A budget of (ε, δ), held at `order`.
    ///
    /// # Errors
    /// An order at or below 1, or one at which even the first release would exceed the budget.
    pub fn new(epsilon: Epsilon, delta: Delta, order: f64) -> Result<RdpFilter, PrivacyError> {
        if !(order.is_finite() && order > 1.0) {
            return Err(PrivacyError::Order { found: order });
        }
        // The conversion of `rdp::epsilon` turned round.
        let budget = epsilon.get() - log1p(-1.0 / order) + log(delta.get() * order) / (order - 1.0);
        if budget <= 0.0 {
            return Err(PrivacyError::FilterOrder {
                epsilon: epsilon.get(),
                delta: delta.get(),
                order,
            });
        }
        Ok(RdpFilter {
            order,
            budget,
            spent: 0.0,
            delta,
        })
    }

    /// The filter at that of [`rdp::orders`] which permits the most of a plan: the order has to be
    /// chosen before the first release, and the plan is what is known then.
    ///
    /// # Errors
    /// When no order can hold the budget.
    pub fn for_plan(
        epsilon: Epsilon,
        delta: Delta,
        plan: &[Phase],
    ) -> Result<RdpFilter, PrivacyError> {
        let curve = rdp::Curve::of(plan, &rdp::orders())?;
        let mut best: Option<(f64, RdpFilter)> = None;
        let mut refusal = None;
        for (order, cost) in curve.points() {
            match RdpFilter::new(epsilon, delta, *order) {
                Ok(filter) => {
                    let share = cost / filter.budget;
                    if best.as_ref().is_none_or(|(least, _)| share < *least) {
                        best = Some((share, filter));
                    }
                }
                Err(error) => refusal = Some(error),
            }
        }
        match (best, refusal) {
            (Some((_, filter)), _) => Ok(filter),
            (None, Some(error)) => Err(error),
            (None, None) => Err(PrivacyError::Order { found: 0.0 }),
        }
    }

    /// Charges a release, before it is made.
    ///
    /// # Errors
    /// When the budget cannot bear it; then nothing is charged, and nothing may be released.
    pub fn charge(&mut self, phase: &Phase) -> Result<(), PrivacyError> {
        let cost = rdp::step_cost(phase.mechanism(), self.order)? * phase.steps() as f64;
        let after = self.spent + cost;
        if after <= self.budget {
            self.spent = after;
            Ok(())
        } else {
            Err(PrivacyError::Exhausted {
                cost,
                left: self.budget - self.spent,
                order: self.order,
            })
        }
    }

    /// The order at which costs are added, above 1.
    pub fn order(&self) -> f64 {
        self.order
    }

    /// The sum of the charged costs at the order, ≥ 0; never falls.
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// ε that has been spent at the budget's δ; 0 before the first charge.
    pub fn epsilon(&self) -> f64 {
        if self.spent == 0.0 {
            0.0
        } else {
            rdp::epsilon(self.order, self.spent, self.delta)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SampledGaussian;
    use super::*;

    fn phase(steps: u64) -> Phase {
        Phase::new(SampledGaussian::new(1.0, 0.01).unwrap(), steps).unwrap()
    }

    fn budget(epsilon: f64) -> (Epsilon, Delta) {
        (Epsilon::new(epsilon).unwrap(), Delta::new(1e-5).unwrap())
    }

    #[test]
    fn releases_are_refused_before_the_budget_is_exceeded_and_smaller_ones_still_fit() {
        let (epsilon, delta) = budget(2.2);
        let mut filter = RdpFilter::for_plan(epsilon, delta, &[phase(1000)]).unwrap();
        // 1,000 steps cost 2.1014 (the reference's eps-1).
        assert_eq!(filter.epsilon(), 0.0);
        filter.charge(&phase(1000)).unwrap();
        assert!((filter.epsilon() - 2.1014).abs() < 1e-3, "{filter:?}");
        let before = filter.clone();
        let refused = filter.charge(&phase(1000));
        assert!(
            matches!(refused, Err(PrivacyError::Exhausted { .. })),
            "{refused:?}"
        );
        assert_eq!(filter, before);
        filter.charge(&phase(50)).unwrap();
        assert!(filter.epsilon() <= 2.2 && filter.spent() > before.spent());
    }

    #[test]
    fn many_small_charges_cost_what_one_large_one_costs() {
        let (epsilon, delta) = budget(8.0);
        let mut one = RdpFilter::for_plan(epsilon, delta, &[phase(1000)]).unwrap();
        let mut many = one.clone();
        one.charge(&phase(1000)).unwrap();
        (0..1000).for_each(|_| many.charge(&phase(1)).unwrap());
        assert!((one.spent() / many.spent() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_budget_too_small_for_its_order_is_refused_by_name() {
        let (epsilon, delta) = budget(0.5);
        let refused = RdpFilter::new(epsilon, delta, 2.0);
        assert!(matches!(refused, Err(PrivacyError::FilterOrder { .. })));
        assert!(RdpFilter::new(epsilon, delta, 1.0).is_err());
        let (epsilon, _) = budget(1e-12);
        assert!(RdpFilter::for_plan(epsilon, Delta::new(1e-300).unwrap(), &[phase(1)]).is_err());
    }
}

//! The limits of one runtime by name.

use crate::event::{Limit, LimitGroup};
use crate::sync::Sweep;
use crate::sys::logging;
use crate::sys::sync::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// The named groups of one runtime, which live as long as a handler or a `Limit` uses them. A name without a use leaves some time later.
#[derive(Debug, Default)]
pub(crate) struct LimitNames(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    groups: HashMap<Arc<str>, Weak<LimitGroup>>,
    sweep: Sweep,
}

impl LimitNames {
    /// The group that handlers with this limit share: the limit's own, or the one that has its name already.
    pub(crate) fn group_of(&self, limit: &Limit) -> Arc<LimitGroup> {
        let Some(name) = &limit.group.name else { return Arc::clone(&limit.group) };
        let group = {
            let mut names = self.0.lock();
            let Names { groups, sweep } = &mut *names;
            match groups.get(name).and_then(Weak::upgrade) {
                Some(group) => group,
                None => {
                    if sweep.is_due(groups.len()) {
                        groups.retain(|_, group| group.strong_count() > 0);
                        sweep.has_left(groups.len());
                    }
                    groups.insert(Arc::clone(name), Arc::downgrade(&limit.group));
                    Arc::clone(&limit.group)
                }
            }
        };
        if group.max != limit.group.max {
            logging::warn!(
                "the limit {name} has a maximum of {}, which stands; {} is ignored",
                group.max,
                limit.group.max
            );
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn clones_share_a_group_and_zero_is_one() {
        let names = LimitNames::default();
        let limit = Limit::new(0);
        let other = limit.clone().lax(true);
        assert!(Arc::ptr_eq(&names.group_of(&limit), &names.group_of(&other)));
        assert_eq!(names.group_of(&limit).max, 1);
        assert!(other.lax && !limit.lax);
        assert!(!Arc::ptr_eq(&names.group_of(&limit), &names.group_of(&Limit::new(1))));
    }

    #[test]
    fn equal_names_share_a_group_per_runtime_and_the_first_maximum_stands() {
        let (here, there) = (LimitNames::default(), LimitNames::default());
        let first = here.group_of(&Limit::named("tabs", 3));
        let second = Limit::named("tabs", 5);
        assert!(Arc::ptr_eq(&here.group_of(&second), &first));
        assert_eq!(first.max, 3);
        assert_eq!(there.group_of(&second).max, 5);
        assert!(!Arc::ptr_eq(&here.group_of(&Limit::named("windows", 3)), &first));
    }

    #[test]
    fn a_name_that_nobody_uses_is_forgotten() {
        let names = LimitNames::default();
        drop(names.group_of(&Limit::named("gone", 3)));
        assert_eq!(names.group_of(&Limit::named("gone", 5)).max, 5);
        assert_eq!(names.0.lock().groups.len(), 1);
        // A few that stay, among many that do not.
        let kept: Vec<_> = (0..3).map(|n| names.group_of(&Limit::named(&format!("kept {n}"), 1))).collect();
        for n in 0..10_000 {
            names.group_of(&Limit::named(&n.to_string(), 1));
            assert!(names.0.lock().groups.len() <= 64);
        }
        let again = names.group_of(&Limit::named("kept 1", 5));
        assert!(Arc::ptr_eq(&again, &kept[1]) && again.max == 1);
    }

    /// In a program that has very many.
    #[test]
    fn another_name_costs_the_same_however_many_there_are() {
        let names = LimitNames::default();
        let mut kept = Vec::new();
        let mut time_for_more = || {
            let began = clock::now();
            let before = kept.len();
            kept.extend((before..before + 5_000).map(|n| names.group_of(&Limit::named(&n.to_string(), 1))));
            clock::now() - began
        };
        let first = time_for_more();
        for _ in 0..8 {
            time_for_more();
        }
        // Each looked through up to 45,000 before, where it now looks at two.
        let last = (0..3).map(|_| time_for_more()).min().unwrap_or(clock::NEVER);
        assert!(last < 20 * first.max(1_000_000), "{last} ns for 5,000 names, at first {first}");
    }
}

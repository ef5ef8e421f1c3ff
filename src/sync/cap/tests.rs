use super::*;

fn token(stamp: u64) -> Token {
    Token { stamp, part: 0 }
}

fn rank(level: u8) -> Rank {
    Rank { bus: 1, level, weights: None }
}

fn stand(cap: &mut Cap<u64>, stamp: u64) -> Vec<u64> {
    cap.stand(token(stamp), rank(5), &[], stamp).into_vec()
}

fn full(max: usize) -> Cap<u64> {
    let mut cap = Cap::new(max);
    for stamp in 1..=max as u64 {
        assert!(cap.try_take(token(stamp), &[]));
    }
    cap
}

#[test]
fn admits_its_maximum_and_hands_on_in_order() {
    let mut cap = full(2);
    assert!(!cap.try_take(token(3), &[]));
    assert!(stand(&mut cap, 3).is_empty() && stand(&mut cap, 4).is_empty());
    assert_eq!(cap.release(token(2)).into_vec(), [3]);
    assert!(!cap.try_take(token(5), &[]), "nobody slips in before 4");
    assert_eq!(cap.release(token(1)).into_vec(), [4]);
    assert!(cap.release(token(3)).is_empty());
    assert!(cap.try_take(token(5), &[]));
}

#[test]
fn a_maximum_of_zero_admits_one() {
    let mut cap = full(1);
    assert_eq!((cap.max(), Cap::<u64>::new(0).max()), (1, 1));
    assert!(!cap.try_take(token(2), &[]));
}

#[test]
fn taking_and_releasing_twice_changes_nothing() {
    let mut cap = full(1);
    assert!(cap.try_take(token(1), &[]), "a retry finds its place held");
    assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
    assert_eq!(cap.release(token(1)).into_vec(), [2]);
    assert!(cap.release(token(1)).is_empty());
    assert!(cap.holds(token(2)) && cap.in_line(token(3)));
}

#[test]
fn a_place_is_lent_down_a_chain() {
    let mut cap = full(1);
    assert!(cap.try_take(token(2), &[token(1)]));
    assert!(cap.try_take(token(3), &[token(2), token(1)]));
    assert!(!cap.try_take(token(4), &[token(2), token(1)]), "each lends to one at a time");
    assert!(!cap.try_take(token(5), &[token(9)]), "who has no place lends none");
    cap.release(token(3));
    assert!(cap.try_take(token(4), &[token(2), token(1)]));
}

#[test]
fn who_waits_lends_to_those_already_in_line_one_after_another() {
    let mut cap = full(1);
    for stamp in 2..=4 {
        assert!(stand(&mut cap, stamp).is_empty());
    }
    assert_eq!(cap.lend(token(1), |t| t.stamp >= 3).into_vec(), [3]);
    assert!(cap.lend(token(1), |t| t.stamp >= 3).is_empty(), "a second look lends no second time");
    assert_eq!(cap.release(token(3)).into_vec(), [4]);
    assert!(cap.release(token(4)).is_empty(), "2 is nobody it waits for");
    assert_eq!(cap.release(token(1)).into_vec(), [2]);
}

#[test]
fn any_waiting_holder_of_a_chain_may_lend() {
    let mut cap = full(1);
    assert!(cap.try_take(token(2), &[token(1)]));
    assert!(stand(&mut cap, 3).is_empty());
    assert!(cap.lend(token(1), |t| t.stamp == 3).is_empty(), "1 has lent to 2");
    assert_eq!(cap.lend(token(2), |t| t.stamp == 3).into_vec(), [3]);
}

#[test]
fn a_lender_that_comes_back_waits_for_its_borrower() {
    let mut cap = full(1);
    assert!(cap.take_back(token(1), || 10), "nothing was lent");
    assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
    assert_eq!(cap.lend(token(1), |_| true).into_vec(), [2]);
    assert!(!cap.take_back(token(1), || 10));
    assert!(!cap.try_take(token(4), &[token(1)]), "it lends no more");
    assert_eq!(cap.release(token(2)).into_vec(), [10]);
    assert_eq!(cap.release(token(1)).into_vec(), [3]);
}

#[test]
fn a_borrower_outlives_its_lender_and_then_counts() {
    let mut cap = full(1);
    assert!(cap.try_take(token(2), &[token(1)]));
    assert!(stand(&mut cap, 3).is_empty());
    assert!(cap.release(token(1)).is_empty());
    assert_eq!(cap.release(token(2)).into_vec(), [3]);
}

#[test]
fn a_borrowers_borrower_moves_up_when_it_leaves() {
    let mut cap = full(1);
    assert!(cap.try_take(token(2), &[token(1)]) && cap.try_take(token(3), &[token(2)]));
    assert!(cap.release(token(2)).is_empty());
    assert_eq!(cap.borrower(token(1)), Some(token(3)));
    assert!(!cap.take_back(token(1), || 10), "3 has the place of 1 now");
    assert!(stand(&mut cap, 4).is_empty());
    assert_eq!(cap.release(token(3)).into_vec(), [10]);
    assert_eq!(cap.release(token(1)).into_vec(), [4]);
}

#[test]
fn who_comes_back_asks_again_when_another_one_has_its_place() {
    let mut cap = full(1);
    assert!(cap.try_take(token(2), &[token(1)]) && cap.try_take(token(3), &[token(2)]));
    assert!(!cap.take_back(token(1), || 10));
    assert_eq!(cap.release(token(2)).into_vec(), [10]);
    assert!(!cap.lends(token(1)) && !cap.take_back(token(1), || 11));
    assert_eq!(cap.release(token(3)).into_vec(), [11]);
    assert!(cap.take_back(token(1), || 12));
}

#[test]
fn the_first_lender_of_a_chain_leaves_its_place_to_it() {
    let mut cap = full(1);
    assert!(cap.try_take(token(2), &[token(1)]) && cap.try_take(token(3), &[token(2)]));
    assert!(stand(&mut cap, 4).is_empty());
    assert!(cap.release(token(1)).is_empty() && cap.release(token(3)).is_empty());
    assert_eq!(cap.release(token(2)).into_vec(), [4]);
}

#[test]
fn the_best_in_line_is_next_also_of_those_who_borrow() {
    let mut cap = full(1);
    for (stamp, level) in [(2, 5), (3, 8), (4, 10), (5, 8)] {
        assert!(cap.stand(token(stamp), rank(level), &[], stamp).is_empty());
    }
    assert_eq!(cap.lend(token(1), |t| t.stamp != 4).into_vec(), [3]);
    assert_eq!(cap.release(token(3)).into_vec(), [5]);
    assert_eq!(cap.release(token(1)).into_vec(), [] as [u64; 0], "5 has the place now");
    assert_eq!(cap.release(token(5)).into_vec(), [4]);
    assert_eq!(cap.leave_line(token(2)), Some(2));
    assert!(!cap.has_line() && cap.offers.is_empty() && cap.keys.is_empty());
}

#[test]
fn a_lender_given_up_while_coming_back_leaves_nothing() {
    let mut cap = full(1);
    assert!(cap.try_take(token(2), &[token(1)]));
    assert!(!cap.take_back(token(1), || 10));
    assert!(cap.release(token(1)).is_empty());
    assert!(cap.release(token(2)).is_empty());
    assert!(cap.try_take(token(3), &[]));
}

#[test]
fn leaving_the_line_and_a_turn_exclude_each_other() {
    let mut cap = full(1);
    assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
    assert_eq!(cap.leave_line(token(2)), Some(2));
    assert_eq!(cap.leave_line(token(2)), None);
    assert_eq!(cap.release(token(1)).into_vec(), [3]);
    assert_eq!(cap.leave_line(token(3)), None, "its turn has come");
    assert_eq!(cap.go_in_anyway(token(3)), None);
}

#[test]
fn who_goes_in_anyway_takes_nobodys_place() {
    let mut cap = full(1);
    assert!(stand(&mut cap, 2).is_empty() && stand(&mut cap, 3).is_empty());
    assert_eq!(cap.go_in_anyway(token(2)), Some(2));
    assert!(cap.try_take(token(2), &[]), "its next attempt goes in the same way");
    assert!(!cap.try_take(token(4), &[token(2)]), "it has no place to lend");
    assert!(cap.release(token(2)).is_empty(), "3 waits for 1 alone");
    assert_eq!(cap.release(token(1)).into_vec(), [3]);
}

/// Against the rule itself: those inside that neither borrow nor went in anyway are never more than the maximum, and nobody stands
/// in line while there is room.
#[test]
fn random_steps_keep_the_maximum() {
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for max in 1..=3 {
        let mut cap = Cap::new(max);
        let mut inside: Vec<u64> = Vec::new();
        let mut next = 0;
        for _ in 0..20_000 {
            let pick = (!inside.is_empty()).then(|| inside[random(inside.len() as u64) as usize]);
            match (random(5), pick) {
                (0 | 1, _) => {
                    next += 1;
                    if cap.try_take(token(next), &[]) {
                        inside.push(next);
                    } else {
                        inside.extend(cap.stand(token(next), rank(random(11) as u8), &[], next));
                    }
                }
                (2, Some(lender)) => {
                    let to = next.saturating_sub(random(4));
                    inside.extend(cap.lend(token(lender), |t| t.stamp == to));
                }
                (_, Some(leaving)) => {
                    inside.retain(|t| *t != leaving);
                    inside.extend(cap.release(token(leaving)));
                }
                _ => {}
            }
            let free = cap.holders.values().filter(|h| h.under.is_none()).count();
            assert_eq!(free, cap.places);
            assert!(free <= max && inside.len() == cap.holders.len());
            assert!(cap.line.is_empty() || !cap.has_room());
        }
    }
}

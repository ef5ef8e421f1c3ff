use super::*;

fn token(stamp: u64) -> Token {
    Token { stamp, part: 0 }
}
fn ticket(stamp: u64) -> Ticket<u64> {
    Ticket { token: token(stamp), under: None, rank: Rank::NONE, turn: stamp }
}
fn turns(granted: Granted<u64>) -> Vec<u64> {
    granted.into_vec()
}

#[test]
fn who_holds_or_gave_it_up_or_stands_in_line_keeps_it() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(!s.keeps(token(1)));
    assert!(s.try_take(Position::Entry, token(1), None));
    assert!(s.keeps(token(1)) && !s.keeps(token(2)));
    s.stand(Position::Front, ticket(2));
    assert!(s.keeps(token(2)));
    assert_eq!(turns(s.set_down(token(1))), [2]);
    assert!(s.keeps(token(1)));
    s.release(token(1));
    assert!(!s.keeps(token(1)) && s.keeps(token(2)));
}

#[test]
fn hand_off_is_first_come_first_served_and_nobody_slips_in() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    assert!(turns(s.stand(Position::Entry, ticket(2))).is_empty());
    assert_eq!(turns(s.release(token(1))), [2]);
    assert!(!s.try_take(Position::Entry, token(3), None));
    assert!(turns(s.stand(Position::Entry, ticket(3))).is_empty());
    assert!(!s.try_take(Position::Entry, token(4), None));
    assert_eq!(turns(s.release(token(2))), [3]);
    assert!(turns(s.release(token(3))).is_empty());
    assert!(s.is_quiet());
}

#[test]
fn releasing_twice_changes_nothing() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    s.stand(Position::Entry, ticket(2));
    s.stand(Position::Entry, ticket(3));
    assert_eq!(turns(s.release(token(1))), [2]);
    assert!(turns(s.release(token(1))).is_empty());
    assert!(s.holds(token(2)));
}

#[test]
fn those_who_come_back_go_before_those_who_have_not_started() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    assert!(turns(s.stand(Position::Entry, ticket(6))).is_empty());
    assert!(turns(s.stand(Position::Front, ticket(5))).is_empty());
    assert_eq!(turns(s.set_down(token(1))), [5]);
    assert!(turns(s.stand(Position::Front, ticket(1))).is_empty());
    assert!(turns(s.stand(Position::First, ticket(9))).is_empty());
    assert_eq!(turns(s.release(token(5))), [9]);
    assert_eq!(turns(s.release(token(9))), [1]);
    assert_eq!(turns(s.release(token(1))), [6]);
}

#[test]
fn what_has_not_started_goes_by_priority() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    for (stamp, level) in [(2, 5), (3, 8), (4, 0), (5, 8)] {
        assert!(
            turns(s.stand(Position::Entry, Ticket { rank: Rank { level, ..Rank::NONE }, ..ticket(stamp) })).is_empty()
        );
    }
    s.raise(token(4), Rank { level: 10, ..Rank::NONE });
    s.raise(token(3), Rank { level: 0, ..Rank::NONE });
    let order = std::iter::successors(Some(1), |last| turns(s.release(token(*last))).first().copied());
    assert_eq!(order.collect::<Vec<_>>(), [1, 4, 3, 5, 2]);
    assert!(s.is_quiet() && s.keys.is_empty());
}

#[test]
fn a_suspended_holder_keeps_the_queue_waiting() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    s.set_down(token(1));
    assert!(!s.is_quiet());
    assert!(!s.try_take(Position::Entry, token(2), None));
    assert!(turns(s.stand(Position::Entry, ticket(2))).is_empty());
    assert_eq!(turns(s.release(token(1))), [2]);
    s.release(token(2));
    assert!(s.is_quiet());
}

#[test]
fn a_handler_permit_goes_on_while_its_holder_is_suspended() {
    let mut s = Semaphore::new(1, WhileSetDown::Passed);
    assert!(s.try_take(Position::Entry, token(1), None));
    assert!(turns(s.stand(Position::Entry, ticket(2))).is_empty());
    assert_eq!(turns(s.set_down(token(1))), [2]);
    assert!(turns(s.stand(Position::Entry, ticket(3))).is_empty());
    assert!(turns(s.stand(Position::Front, ticket(1))).is_empty());
    assert_eq!(turns(s.release(token(2))), [1]);
    assert_eq!(turns(s.release(token(1))), [3]);
}

#[test]
fn a_lender_lends_to_one_at_a_time() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    assert!(s.try_take(Position::Entry, token(2), Some(token(1))));
    assert!(!s.try_take(Position::Entry, token(3), Some(token(1))));
    let three = Ticket { under: Some(token(1)), ..ticket(3) };
    assert!(turns(s.stand(Position::Front, three)).is_empty());
    assert_eq!(turns(s.release(token(2))), [3]);
    // The lender gives up: the borrower holds alone, and nobody else gets in.
    assert!(turns(s.set_down(token(1))).is_empty());
    assert!(turns(s.stand(Position::Front, ticket(4))).is_empty());
    assert_eq!(turns(s.release(token(3))), [4]);
}

#[test]
fn threads_of_one_token_come_back_together() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    assert!(turns(s.stand(Position::Front, ticket(2))).is_empty());
    assert_eq!(turns(s.set_down(token(1))), [2]);
    assert!(turns(s.stand(Position::Front, ticket(1))).is_empty());
    assert!(turns(s.stand(Position::Front, ticket(1))).is_empty());
    assert_eq!(turns(s.release(token(2))), [1, 1]);
    assert!(s.holds(token(1)));
}

#[test]
fn withdrawn_tickets_are_reported() {
    let mut s = Semaphore::new(1, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None));
    s.stand(Position::Front, ticket(2));
    s.stand(Position::Entry, ticket(2));
    let (withdrawn, granted) = s.withdraw(2, |t| t == token(2));
    assert_eq!(withdrawn.into_vec(), [2, 2]);
    assert!(granted.is_empty());
    assert!(!s.in_line(token(2), |_| true) && !s.holds(token(2)));
}

#[test]
fn a_capacity_of_two_admits_two() {
    let mut s: Semaphore<u64> = Semaphore::new(2, WhileSetDown::Kept);
    assert!(s.try_take(Position::Entry, token(1), None) && s.try_take(Position::Entry, token(2), None));
    assert!(!s.try_take(Position::Entry, token(3), None));
}

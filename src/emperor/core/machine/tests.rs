//! Every pair of state and event, and stories of several events.

use super::*;

const THROTTLE: Duration = Duration::from_secs(2);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn machine(state: State) -> Machine {
    Machine::resume(state, backoff::Backoff::new(THROTTLE, seconds(60)), None)
}

/// Every pair: the state that follows and the action, at second 100 of the test's clock.
#[test]
fn every_state_and_event() {
    let zero = Instant::now();
    let now = zero + seconds(100);
    let old = Running { since: zero };
    let young = Running { since: now - Duration::from_millis(999) };
    let kill_at = now + seconds(3);
    let asked = |then| Stopping { then, kill_at, end: End::Asked };
    let fresh = |then| Stopping { then, kill_at: now + ANSWER, end: End::Asked };
    let at_start = |then| Stopping { then, kill_at: now + ANSWER_AT_START, end: End::Asked };
    let settled = |then| Stopping { then, kill_at, end: End::Announced };
    let gone = |then| Stopping { then, kill_at: now + FREE, end: End::Announced };
    let leaving = |then| Stopping { then, kill_at: now + seconds(10) + GRACE, end: End::Announced };
    let killed = |then| Stopping { then, kill_at: now + KILL_AGAIN, end: End::Killed };
    // SIGKILL was sent before and has not ended the process: with time left, and without.
    let undead = |then| Stopping { then, kill_at, end: End::Killed };
    let stuck = |then| Stopping { then, kill_at: now, end: End::Killed };
    let overdue = |then| Stopping { then, kill_at: now, end: End::Announced };
    let waiting = Backoff { until: kill_at };
    let throttled = Backoff { until: now + THROTTLE };
    let (idle, starting) = (Idle, Starting { since: now, remind_at: now + SETUP });
    let slow = Starting { since: zero, remind_at: now };
    let reminded = Starting { since: zero, remind_at: now + seconds(100) };
    let invalid = Invalid { until: kill_at };
    let untried = Invalid { until: now };
    let (held, armed) = (Held, Waiting);
    let due = Backoff { until: now };
    let found_invalid = Invalid { until: now + seconds(60) };
    use {Input as E, Output as A, Then as T};
    let within = E::Leaving(seconds(10));
    let [done, refused, other_jail] =
        [Answer::Reloaded, Answer::Refused, Answer::NeedsRespawn].map(E::Answered);
    let soon = E::Reloading(seconds(10));
    let answer_by = now + seconds(3);
    let reload = |again| Reloading { since: zero, answer_by, settled: false, again };
    let accepted = |again| Reloading { since: zero, answer_by, settled: true, again };
    let answered_by = |since, answer_by| Reloading { since, answer_by, settled: false, again: false };
    let (queued, sent) = (|since| answered_by(since, now + LONGEST), answered_by(zero, now + ANSWER));
    let late = Reloading { since: zero, answer_by: now, settled: true, again: true };
    let until = |again| Reloading { since: zero, answer_by: now + seconds(11), settled: true, again };
    let table = [
        (idle, E::Refresh, starting, A::Spawn),
        (idle, E::Stop, idle, A::Forget),
        (idle, E::Running, idle, A::None),
        (idle, within, idle, A::None),
        (idle, E::Died, idle, A::None),
        (idle, E::SpawnFailed, idle, A::None),
        (idle, E::Time, idle, A::None),
        (idle, E::ClearBackoff, idle, A::None),
        (idle, E::Kill, idle, A::None),
        (starting, E::Refresh, at_start(T::Respawn), A::AskToStop),
        (starting, E::Stop, at_start(T::Nothing), A::AskToStop),
        (slow, E::Spawned, starting, A::None),
        (old, E::Spawned, old, A::None),
        (old, E::Sent, old, A::None),
        (starting, E::Running, Running { since: now }, A::None),
        (starting, within, leaving(T::Backoff), A::None),
        (starting, E::Died, throttled, A::None),
        (starting, E::SpawnFailed, throttled, A::None),
        (starting, E::Time, starting, A::None),
        (starting, E::ClearBackoff, starting, A::None),
        (starting, E::Kill, killed(T::Nothing), A::Kill),
        (old, E::Refresh, queued(zero), A::Reload),
        (old, E::Stop, fresh(T::Nothing), A::AskToStop),
        (old, E::Running, old, A::None),
        (old, within, leaving(T::Again), A::None),
        (young, within, leaving(T::Backoff), A::None),
        (old, E::Died, starting, A::Spawn),
        (young, E::Died, throttled, A::None),
        (old, E::SpawnFailed, old, A::None),
        (old, E::Time, old, A::None),
        (old, E::ClearBackoff, old, A::None),
        (old, E::Kill, killed(T::Nothing), A::Kill),
        (asked(T::Nothing), E::Refresh, asked(T::Respawn), A::None),
        (asked(T::Respawn), E::Refresh, asked(T::Respawn), A::None),
        (settled(T::Backoff), E::Refresh, settled(T::Respawn), A::None),
        (asked(T::Respawn), E::Stop, asked(T::Nothing), A::None),
        (asked(T::Respawn), E::Running, asked(T::Respawn), A::None),
        (asked(T::Respawn), within, leaving(T::Respawn), A::None),
        (settled(T::Respawn), within, settled(T::Respawn), A::None),
        (settled(T::Respawn), E::Leaving(Duration::ZERO), gone(T::Respawn), A::None),
        (asked(T::Respawn), E::Died, starting, A::Spawn),
        (asked(T::Nothing), E::Died, idle, A::Forget),
        (settled(T::Backoff), E::Died, throttled, A::None),
        (asked(T::Respawn), E::SpawnFailed, asked(T::Respawn), A::None),
        (asked(T::Respawn), E::Time, asked(T::Respawn), A::None),
        (asked(T::Respawn), E::ClearBackoff, asked(T::Respawn), A::None),
        (asked(T::Respawn), E::Kill, killed(T::Respawn), A::Kill),
        (waiting, E::Refresh, starting, A::Spawn),
        (waiting, E::Stop, idle, A::Forget),
        (waiting, E::Running, waiting, A::None),
        (waiting, within, waiting, A::None),
        (waiting, E::Died, waiting, A::None),
        (waiting, E::SpawnFailed, waiting, A::None),
        (waiting, E::Time, waiting, A::None),
        (waiting, E::ClearBackoff, starting, A::Spawn),
        (waiting, E::Kill, waiting, A::None),
        (idle, soon, idle, A::None),
        (idle, done, idle, A::None),
        (idle, refused, idle, A::None),
        (idle, other_jail, idle, A::None),
        (starting, soon, starting, A::None),
        (starting, done, starting, A::None),
        (starting, refused, starting, A::None),
        (starting, other_jail, starting, A::None),
        (old, soon, old, A::None),
        (old, done, old, A::None),
        (old, refused, old, A::None),
        (old, other_jail, old, A::None),
        (asked(T::Respawn), soon, asked(T::Respawn), A::None),
        (asked(T::Respawn), done, asked(T::Respawn), A::None),
        (asked(T::Respawn), refused, asked(T::Respawn), A::None),
        (asked(T::Respawn), other_jail, asked(T::Respawn), A::None),
        (waiting, soon, waiting, A::None),
        (waiting, done, waiting, A::None),
        (waiting, refused, waiting, A::None),
        (waiting, other_jail, waiting, A::None),
        (reload(false), E::Refresh, reload(true), A::None),
        (reload(true), E::Refresh, reload(true), A::None),
        (accepted(false), E::Refresh, accepted(true), A::None),
        (reload(true), E::Stop, fresh(T::Nothing), A::AskToStop),
        (reload(true), E::Running, reload(true), A::None),
        (reload(true), within, leaving(T::Respawn), A::None),
        (reload(false), E::Sent, sent, A::None),
        (accepted(true), E::Sent, accepted(true), A::None),
        (reload(false), soon, until(false), A::None),
        (reload(true), soon, until(true), A::None),
        (accepted(true), soon, accepted(true), A::None),
        (reload(false), done, old, A::None),
        (reload(true), done, queued(zero), A::Reload),
        (accepted(false), done, Running { since: now }, A::None),
        (accepted(true), done, queued(now), A::Reload),
        (reload(false), refused, old, A::None),
        (reload(true), refused, queued(zero), A::Reload),
        (reload(false), other_jail, fresh(T::Respawn), A::AskToStop),
        (reload(true), other_jail, queued(zero), A::Reload),
        (reload(false), E::Died, starting, A::Spawn),
        (reload(true), E::Died, starting, A::Spawn),
        (reload(true), E::SpawnFailed, reload(true), A::None),
        (reload(true), E::Time, reload(true), A::None),
        (late, E::Time, fresh(T::Respawn), A::AskToStop),
        (reload(true), E::ClearBackoff, reload(true), A::None),
        (reload(true), E::Kill, killed(T::Nothing), A::Kill),
        (slow, E::Time, reminded, A::Remind),
        (slow, E::GiveUp, reminded, A::Remind),
        (slow, E::Died, throttled, A::None),
        (idle, E::DiedInvalid, idle, A::None),
        (starting, E::DiedInvalid, found_invalid, A::None),
        (old, E::DiedInvalid, starting, A::Spawn),
        (young, E::DiedInvalid, found_invalid, A::None),
        (reload(false), E::DiedInvalid, starting, A::Spawn),
        (settled(T::Backoff), E::DiedInvalid, found_invalid, A::None),
        (asked(T::Respawn), E::DiedInvalid, starting, A::Spawn),
        (asked(T::Nothing), E::DiedInvalid, idle, A::Forget),
        (waiting, E::DiedInvalid, waiting, A::None),
        (invalid, E::DiedInvalid, invalid, A::None),
        (invalid, E::Refresh, starting, A::Spawn),
        (invalid, E::Stop, idle, A::Forget),
        (invalid, E::Running, invalid, A::None),
        (invalid, within, invalid, A::None),
        (invalid, soon, invalid, A::None),
        (invalid, done, invalid, A::None),
        (invalid, refused, invalid, A::None),
        (invalid, other_jail, invalid, A::None),
        (invalid, E::Died, invalid, A::None),
        (invalid, E::SpawnFailed, invalid, A::None),
        (invalid, E::Time, invalid, A::None),
        (untried, E::Time, starting, A::Spawn),
        (invalid, E::ClearBackoff, starting, A::Spawn),
        (invalid, E::Kill, invalid, A::None),
        (invalid, E::GiveUp, invalid, A::None),
        (idle, E::GiveUp, idle, A::None),
        (starting, E::GiveUp, starting, A::None),
        (old, E::GiveUp, old, A::None),
        (reload(true), E::GiveUp, reload(true), A::None),
        (waiting, E::GiveUp, waiting, A::None),
        (asked(T::Nothing), E::GiveUp, asked(T::Nothing), A::None),
        (overdue(T::Nothing), E::Time, killed(T::Nothing), A::Kill),
        (overdue(T::Nothing), E::GiveUp, killed(T::Nothing), A::Kill),
        (undead(T::Nothing), E::Refresh, undead(T::Respawn), A::None),
        (undead(T::Respawn), E::Stop, undead(T::Nothing), A::None),
        (undead(T::Nothing), within, undead(T::Nothing), A::None),
        (undead(T::Nothing), E::Kill, undead(T::Nothing), A::Kill),
        (undead(T::Nothing), E::Time, undead(T::Nothing), A::None),
        (undead(T::Nothing), E::GiveUp, undead(T::Nothing), A::None),
        (undead(T::Nothing), E::Died, idle, A::Forget),
        (stuck(T::Nothing), E::Time, killed(T::Nothing), A::Kill),
        (stuck(T::Nothing), E::GiveUp, idle, A::Forget),
        (stuck(T::Respawn), E::GiveUp, idle, A::Forget),
        (idle, E::Hold, held, A::None),
        (starting, E::Hold, at_start(T::Hold), A::AskToStop),
        (old, E::Hold, fresh(T::Hold), A::AskToStop),
        (reload(true), E::Hold, fresh(T::Hold), A::AskToStop),
        (asked(T::Nothing), E::Hold, asked(T::Nothing), A::None),
        (asked(T::Respawn), E::Hold, asked(T::Hold), A::None),
        (settled(T::Backoff), E::Hold, settled(T::Hold), A::None),
        (asked(T::Hold), E::Hold, asked(T::Hold), A::None),
        (waiting, E::Hold, held, A::None),
        (invalid, E::Hold, held, A::None),
        (held, E::Hold, held, A::None),
        (idle, E::Release, starting, A::Spawn),
        (starting, E::Release, starting, A::None),
        (old, E::Release, old, A::None),
        (reload(true), E::Release, reload(true), A::None),
        (asked(T::Nothing), E::Release, asked(T::Nothing), A::None),
        (asked(T::Respawn), E::Release, asked(T::Respawn), A::None),
        (settled(T::Backoff), E::Release, settled(T::Respawn), A::None),
        (asked(T::Hold), E::Release, asked(T::Respawn), A::None),
        (waiting, E::Release, starting, A::Spawn),
        (invalid, E::Release, starting, A::Spawn),
        (held, E::Release, starting, A::Spawn),
        (asked(T::Hold), E::Refresh, asked(T::Hold), A::None),
        (asked(T::Hold), E::Stop, asked(T::Nothing), A::None),
        (asked(T::Hold), within, leaving(T::Hold), A::None),
        (asked(T::Hold), E::Died, held, A::None),
        (asked(T::Hold), E::DiedInvalid, held, A::None),
        (asked(T::Hold), E::Kill, killed(T::Hold), A::Kill),
        (held, E::Refresh, held, A::None),
        (held, E::Stop, idle, A::Forget),
        (held, E::Running, held, A::None),
        (held, within, held, A::None),
        (held, soon, held, A::None),
        (held, done, held, A::None),
        (held, E::Died, held, A::None),
        (held, E::DiedInvalid, held, A::None),
        (held, E::SpawnFailed, held, A::None),
        (held, E::Time, held, A::None),
        (held, E::ClearBackoff, held, A::None),
        (held, E::Kill, held, A::None),
        (held, E::GiveUp, held, A::None),
        (idle, E::Leave, idle, A::None),
        (starting, E::Leave, fresh(T::Rest), A::AskToStop),
        (old, E::Leave, fresh(T::Rest), A::AskToStop),
        (young, E::Leave, fresh(T::Rest), A::AskToStop),
        (reload(false), E::Leave, fresh(T::Respawn), A::AskToStop),
        (asked(T::Nothing), E::Leave, asked(T::Nothing), A::None),
        (waiting, E::Leave, waiting, A::None),
        (invalid, E::Leave, invalid, A::None),
        (held, E::Leave, held, A::None),
        (asked(T::Rest), E::Refresh, asked(T::Respawn), A::None),
        (asked(T::Rest), E::Stop, asked(T::Nothing), A::None),
        (asked(T::Rest), E::Hold, asked(T::Hold), A::None),
        (asked(T::Rest), E::Release, asked(T::Respawn), A::None),
        (asked(T::Rest), within, leaving(T::Rest), A::None),
        (asked(T::Rest), E::Died, idle, A::None),
        (asked(T::Rest), E::DiedInvalid, idle, A::None),
        (asked(T::Rest), E::Kill, killed(T::Rest), A::Kill),
        (overdue(T::Rest), E::Time, killed(T::Rest), A::Kill),
        (armed, E::Refresh, starting, A::Spawn),
        (armed, E::Stop, idle, A::Forget),
        (armed, E::Hold, held, A::None),
        (armed, E::Release, starting, A::Spawn),
        (armed, E::Connected, starting, A::Spawn),
        (armed, E::Running, armed, A::None),
        (armed, E::Heartbeat(seconds(1)), armed, A::None),
        (armed, E::Leave, armed, A::None),
        (armed, within, armed, A::None),
        (armed, soon, armed, A::None),
        (armed, done, armed, A::None),
        (armed, refused, armed, A::None),
        (armed, other_jail, armed, A::None),
        (armed, E::Died, armed, A::None),
        (armed, E::DiedInvalid, armed, A::None),
        (armed, E::SpawnFailed, throttled, A::None),
        (armed, E::Time, armed, A::None),
        (armed, E::ClearBackoff, armed, A::None),
        (armed, E::Kill, armed, A::None),
        (armed, E::GiveUp, armed, A::None),
        (idle, E::Stuck, idle, A::None),
        (starting, E::Stuck, killed(T::Backoff), A::Kill),
        (old, E::Stuck, killed(T::Again), A::Kill),
        (young, E::Stuck, killed(T::Backoff), A::Kill),
        (reload(false), E::Stuck, killed(T::Respawn), A::Kill),
        (asked(T::Nothing), E::Stuck, asked(T::Nothing), A::None),
        (waiting, E::Stuck, waiting, A::None),
        (invalid, E::Stuck, invalid, A::None),
        (held, E::Stuck, held, A::None),
        (armed, E::Stuck, armed, A::None),
        (starting, E::Unsure, Starting { since: now, remind_at: now + seconds(1) }, A::None),
        (old, E::Unsure, old, A::None),
        (idle, E::Connected, idle, A::None),
        (starting, E::Connected, starting, A::None),
        (old, E::Connected, old, A::None),
        (reload(false), E::Connected, reload(false), A::None),
        (asked(T::Respawn), E::Connected, asked(T::Respawn), A::None),
        (waiting, E::Connected, waiting, A::None),
        (invalid, E::Connected, invalid, A::None),
        (held, E::Connected, held, A::None),
    ];
    // The pairs that differ if instances are only created on demand.
    let on_demand = [
        (idle, E::Refresh, armed, A::Listen),
        (armed, E::Refresh, armed, A::Listen),
        (waiting, E::Refresh, armed, A::Listen),
        (invalid, E::Refresh, armed, A::Listen),
        (waiting, E::ClearBackoff, armed, A::Listen),
        (due, E::Time, armed, A::Listen),
        (untried, E::Time, armed, A::Listen),
        (untried, E::GiveUp, armed, A::Listen),
        (old, E::Died, armed, A::Listen),
        (young, E::Died, throttled, A::None),
        (starting, E::Died, throttled, A::None),
        (reload(false), E::Died, armed, A::Listen),
        (asked(T::Respawn), E::Died, armed, A::Listen),
        (asked(T::Nothing), E::Died, idle, A::Forget),
        (starting, E::Leave, fresh(T::Backoff), A::AskToStop),
        (old, E::Leave, fresh(T::Again), A::AskToStop),
        (young, E::Leave, fresh(T::Backoff), A::AskToStop),
        (reload(false), E::Leave, fresh(T::Respawn), A::AskToStop),
        (armed, E::Connected, starting, A::Spawn),
        (armed, E::Release, starting, A::Spawn),
        (held, E::Release, starting, A::Spawn),
        (old, E::Refresh, queued(zero), A::Reload),
    ];
    let both = table.map(|row| (false, row)).into_iter().chain(on_demand.map(|row| (true, row)));
    for (on_demand, (before, event, after, action)) in both {
        let mut machine = machine(before);
        machine.set_on_demand(on_demand);
        let done = machine.step(event, now);
        assert_eq!(
            (machine.state(), done),
            (after, action),
            "{before:?} + {event:?}, on demand: {on_demand}"
        );
    }
}

#[test]
fn a_vassal_that_does_not_stop_is_killed_again_and_again() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    assert_eq!(vassal.step(Input::Stop, now), Output::AskToStop);
    assert_eq!(vassal.deadline(), Some(now + ANSWER));
    vassal.step(Input::Leaving(seconds(10)), now + seconds(1));
    assert_eq!(vassal.deadline(), Some(now + seconds(12)));
    assert_eq!(vassal.step(Input::Time, now + seconds(11)), Output::None);
    assert_eq!(vassal.step(Input::Time, now + seconds(12)), Output::Kill);
    assert_eq!(vassal.step(Input::Time, now + seconds(22)), Output::Kill);
    assert_eq!(vassal.step(Input::Died, now + seconds(22)), Output::Forget);
    assert_eq!(vassal.deadline(), None);
}

#[test]
fn one_that_survives_sigkill_is_given_up_in_bounded_time() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    vassal.step(Input::Stop, now);
    assert_eq!(vassal.step(Input::GiveUp, now + ANSWER), Output::Kill);
    // However often a command repeats the request.
    assert_eq!(vassal.step(Input::Kill, now + ANSWER + seconds(9)), Output::Kill);
    assert_eq!(vassal.deadline(), Some(now + ANSWER + KILL_AGAIN));
    assert_eq!(vassal.step(Input::GiveUp, now + ANSWER + KILL_AGAIN), Output::Forget);
}

#[test]
fn a_long_start_is_told_at_doubled_intervals_and_never_ended() {
    let zero = Instant::now();
    let mut vassal = machine(Idle);
    vassal.step(Input::Refresh, zero);
    for told in [10, 20, 40, 80] {
        assert_eq!(vassal.deadline(), Some(zero + seconds(told)));
        assert_eq!(vassal.step(Input::Time, zero + seconds(told - 1)), Output::None);
        assert_eq!(vassal.step(Input::Time, zero + seconds(told)), Output::Remind);
    }
    vassal.step(Input::Running, zero + seconds(81));
    assert_eq!(vassal.deadline(), None);
}

#[test]
fn an_invalid_file_is_not_tried_again_before_the_longest_delay_and_is_no_failure() {
    let now = Instant::now();
    let mut vassal = machine(Idle);
    vassal.step(Input::Refresh, now);
    // It closes its link before it has ended.
    vassal.step(Input::Leaving(Duration::ZERO), now);
    assert_eq!(vassal.step(Input::DiedInvalid, now), Output::None);
    assert_eq!(vassal.deadline(), Some(now + seconds(60)));
    assert_eq!(vassal.step(Input::Refresh, now), Output::Spawn);
    vassal.step(Input::Died, now);
    assert_eq!(vassal.deadline(), Some(now + THROTTLE));
}

#[test]
fn an_absurd_announcement_is_cut() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    vassal.step(Input::Stop, now);
    vassal.step(Input::Leaving(Duration::MAX), now);
    assert_eq!(vassal.deadline(), Some(now + LONGEST + GRACE));
}

#[test]
fn failures_double_the_delay_until_an_edit_or_a_long_enough_run() {
    let mut now = Instant::now();
    let mut vassal = machine(Idle);
    assert_eq!(vassal.step(Input::Refresh, now), Output::Spawn);
    for delay in [2, 4, 8] {
        assert_eq!(vassal.step(Input::Died, now), Output::None);
        assert_eq!(vassal.deadline(), Some(now + seconds(delay)));
        now += seconds(delay);
        assert_eq!(vassal.step(Input::Time, now), Output::Spawn);
    }
    vassal.step(Input::SpawnFailed, now);
    assert_eq!(vassal.deadline(), Some(now + seconds(16)));
    assert_eq!(vassal.step(Input::Refresh, now), Output::Spawn);
    vassal.step(Input::Died, now);
    assert_eq!(vassal.deadline(), Some(now + seconds(2)));
    now += seconds(2);
    vassal.step(Input::Time, now);
    vassal.step(Input::Running, now);
    // The next delay would be four seconds, and it has run for as long.
    now += seconds(4);
    assert_eq!(vassal.step(Input::Died, now), Output::Spawn);
    vassal.step(Input::Died, now);
    assert_eq!(vassal.deadline(), Some(now + seconds(8)), "it has not got over it");
    now += seconds(8);
    vassal.step(Input::Time, now);
    vassal.step(Input::Running, now);
    now += LASTING;
    assert_eq!(vassal.step(Input::Died, now), Output::Spawn);
    vassal.step(Input::Died, now);
    assert_eq!(vassal.deadline(), Some(now + seconds(4)), "it has");
}

#[test]
fn what_ends_a_second_after_each_start_does_not_keep_the_machine_busy() {
    let runs = |input: Input, time: Duration, on_demand: bool| {
        let (mut now, mut starts) = (Instant::now(), 0);
        let mut vassal = machine(Idle);
        vassal.set_on_demand(on_demand);
        let end = now + seconds(60);
        let mut output = vassal.step(Input::Refresh, now);
        while now < end {
            match output {
                Output::Spawn => {
                    starts += 1;
                    vassal.step(Input::Running, now);
                    now += time;
                    output = vassal.step(input, now);
                }
                Output::Listen => output = vassal.step(Input::Connected, now),
                _ => {
                    now = vassal.deadline().unwrap();
                    output = vassal.step(Input::Time, now);
                }
            }
        }
        starts
    };
    let short = Duration::from_millis(1200);
    // At once, and then after 4, 8, 16 and 32 seconds.
    assert_eq!(runs(Input::Died, short, false), 5);
    assert_eq!(runs(Input::Died, Duration::from_millis(2100), false), 5);
    // Three times at once, and then after 16 and 32 seconds.
    assert_eq!(runs(Input::Died, seconds(5), false), 5);
    assert_eq!(runs(Input::Died, seconds(30), false), 2, "that is no storm");
    // Of a mount that is lost each time, some losses are let pass.
    assert_eq!(runs(Input::DiedOfLoss, short, false), 8);
    // An app on demand that leaves has done its work, and one that fails has not.
    assert_eq!(runs(Input::Left, short, true), 50);
    assert_eq!(runs(Input::Died, short, true), 5);
    assert_eq!(runs(Input::Left, short, false), 5);
}

#[test]
fn a_change_while_a_reload_is_pending_is_sent_after_the_answer() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    assert_eq!(vassal.step(Input::Refresh, now), Output::Reload);
    assert_eq!(vassal.step(Input::Refresh, now), Output::None);
    assert_eq!(vassal.step(Input::Refresh, now), Output::None);
    assert_eq!(vassal.step(Input::Answered(Answer::NeedsRespawn), now), Output::Reload);
    assert_eq!(vassal.step(Input::Answered(Answer::Refused), now), Output::None);
    assert_eq!(vassal.state(), Running { since: now });
    assert_eq!(vassal.step(Input::Refresh, now), Output::Reload);
    assert_eq!(vassal.step(Input::Answered(Answer::Reloaded), now + seconds(1)), Output::None);
    assert_eq!(vassal.state(), Running { since: now });
}

#[test]
fn a_reload_without_an_answer_becomes_a_restart() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    vassal.step(Input::Refresh, now);
    assert_eq!(vassal.deadline(), Some(now + LONGEST));
    vassal.step(Input::Sent, now);
    assert_eq!(vassal.deadline(), Some(now + ANSWER));
    vassal.step(Input::Reloading(Duration::MAX), now);
    assert_eq!(vassal.deadline(), Some(now + LONGEST + GRACE));
    vassal.step(Input::Reloading(Duration::MAX), now + seconds(1));
    assert_eq!(vassal.step(Input::Time, now + LONGEST), Output::None);
    assert_eq!(vassal.step(Input::Time, now + LONGEST + GRACE), Output::AskToStop);
    // Now it answers.
    assert_eq!(vassal.step(Input::Answered(Answer::Reloaded), now + LONGEST + GRACE), Output::None);
    assert_eq!(vassal.step(Input::Died, now + LONGEST + GRACE), Output::Spawn);
}

#[test]
fn a_removal_or_a_death_ends_a_pending_reload() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    vassal.step(Input::Refresh, now);
    assert_eq!(vassal.step(Input::Stop, now), Output::AskToStop);
    assert_eq!(vassal.step(Input::Answered(Answer::NeedsRespawn), now), Output::None);
    assert_eq!(vassal.step(Input::Died, now), Output::Forget);

    let mut vassal = machine(Running { since: now });
    vassal.step(Input::Refresh, now);
    // It was up for less than a second, but the new file is tried at once; though only once.
    assert_eq!(vassal.step(Input::Died, now), Output::Spawn);
    assert_eq!(vassal.step(Input::Died, now), Output::None);
    assert_eq!(vassal.deadline(), Some(now + THROTTLE));
}

#[test]
fn removed_and_created_again_while_stopping_is_one_restart() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    assert_eq!(vassal.step(Input::Stop, now), Output::AskToStop);
    assert_eq!(vassal.step(Input::Refresh, now), Output::None);
    assert_eq!(vassal.step(Input::Refresh, now), Output::None);
    assert_eq!(vassal.step(Input::Died, now), Output::Spawn);
}

#[test]
fn a_heartbeat_that_stops_ends_the_instance_and_silence_from_the_start_does_not() {
    let now = Instant::now();
    let mut machine = machine(Running { since: now });
    assert_eq!(machine.deadline(), None);
    assert_eq!(machine.step(Input::Heartbeat(seconds(2)), now), Output::None);
    assert_eq!(machine.step(Input::Heartbeat(seconds(2)), now + seconds(1)), Output::None);
    assert_eq!(machine.deadline(), Some(now + seconds(3)));
    assert_eq!(machine.step(Input::Time, now + seconds(2)), Output::None);
    assert_eq!(machine.step(Input::Time, now + seconds(3)), Output::Kill);
    assert_eq!(machine.step(Input::Died, now + seconds(3)), Output::Spawn);
    assert_eq!(machine.step(Input::Running, now + seconds(4)), Output::None);
    assert_eq!(machine.deadline(), None, "the next one has not given any yet");
}

#[test]
fn a_reload_spares_only_another_app_the_heartbeats() {
    let now = Instant::now();
    for (answer, deadline) in [(Answer::Refused, Some(now + seconds(2))), (Answer::Reloaded, None)] {
        let mut machine = machine(Running { since: now });
        machine.step(Input::Heartbeat(seconds(2)), now);
        assert_eq!(machine.step(Input::Refresh, now), Output::Reload);
        assert_eq!(machine.step(Input::Answered(answer), now + seconds(1)), Output::None);
        assert_eq!(machine.deadline(), deadline, "{answer:?}");
    }
    // A check of the file does not matter either: the app goes on.
    let mut checked = machine(Running { since: now });
    checked.step(Input::Heartbeat(seconds(2)), now);
    let deadline = checked.deadline();
    assert_eq!(checked.step(Input::Refresh, now), Output::Reload);
    assert_eq!(checked.step(Input::Checking(seconds(9)), now), Output::None);
    assert_eq!(checked.step(Input::Answered(Answer::Refused), now + seconds(1)), Output::None);
    assert_eq!(checked.deadline(), deadline);
    // PID 1 may also restart the app unasked. Messages of the old app count until the new one runs.
    let mut machine = machine(Running { since: now });
    for event in [Input::Reloading(seconds(9)), Input::Running] {
        machine.step(Input::Heartbeat(seconds(2)), now);
        assert_eq!(machine.step(event, now), Output::None);
        assert_eq!(machine.deadline(), None, "{event:?}");
    }
}

#[test]
fn an_app_that_only_reads_its_configuration_again_is_up_since_it_was_started() {
    let now = Instant::now();
    let mut vassal = machine(Running { since: now });
    vassal.step(Input::Refresh, now + seconds(5));
    vassal.step(Input::Answered(Answer::Reloaded), now + seconds(6));
    assert_eq!(vassal.state(), Running { since: now });
    vassal.step(Input::Refresh, now + seconds(7));
    vassal.step(Input::Reloading(seconds(1)), now + seconds(7));
    vassal.step(Input::Answered(Answer::Reloaded), now + seconds(8));
    assert_eq!(vassal.state(), Running { since: now + seconds(8) });
}

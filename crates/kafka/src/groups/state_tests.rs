use bytes::Bytes;
use kafka_protocol::ResponseError::*;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::member::*;
use super::state::*;

const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 60_000;

fn group() -> Group {
    Group::new(0, 10)
}

fn request(member_id: &str, fresh: &str) -> Join {
    Join {
        member_id: member_id.to_owned(),
        fresh_member_id: fresh.to_owned(),
        member_id_required: false,
        skips_assignment: true,
        instance_id: None,
        client_id: "test".to_owned(),
        client_host: "127.0.0.1".to_owned(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"topics"))],
    }
}

fn join(group: &mut Group, request: Join, now_ms: u64) -> oneshot::Receiver<Joined> {
    let (waiter, reply) = oneshot::channel();
    group.join(request, now_ms, waiter);
    reply
}

fn sync(group: &mut Group, id: &str, generation: i32, give: &[(&str, &str)], now_ms: u64) -> oneshot::Receiver<Synced> {
    let (waiter, reply) = oneshot::channel();
    let assignments = give.iter().map(|(id, it)| ((*id).to_owned(), Bytes::copy_from_slice(it.as_bytes()))).collect();
    let (member_id, instance_id, protocol_type, protocol) = (id.to_owned(), None, None, None);
    group.sync(Sync { member_id, instance_id, generation, protocol_type, protocol, assignments }, now_ms, waiter);
    reply
}

/// A stable group of `a` (the leader) and `b`; returns its generation.
fn stable_pair(group: &mut Group) -> i32 {
    let mut first = join(group, request("", "a"), 0);
    assert_eq!(first.try_recv().unwrap().generation, 1);
    let mut b = join(group, request("", "b"), 1);
    let mut a = join(group, request("a", ""), 2);
    let (a, b) = (a.try_recv().unwrap(), b.try_recv().unwrap());
    assert_eq!((a.generation, b.generation), (2, 2));
    assert_eq!((a.leader.as_str(), b.leader.as_str()), ("a", "a"));
    assert_eq!((a.members.len(), b.members.len()), (2, 0));
    let mut b = sync(group, "b", 2, &[], 3);
    assert_eq!(b.try_recv().unwrap_err(), TryRecvError::Empty);
    let mut a = sync(group, "a", 2, &[("a", "p0"), ("b", "p1")], 4);
    assert_eq!(a.try_recv().unwrap().assignment, "p0");
    assert_eq!(b.try_recv().unwrap().assignment, "p1");
    assert_eq!(group.state(), State::Stable);
    2
}

#[test]
fn two_members_share_the_work() {
    stable_pair(&mut group());
}

#[test]
fn a_newcomer_comes_again_with_the_id_it_was_given() {
    let mut group = group();
    let newcomer = Join { member_id_required: true, ..request("", "a") };
    let reply = join(&mut group, newcomer, 0).try_recv().unwrap();
    assert_eq!((reply.error, reply.member_id.as_str()), (Some(MemberIdRequired), "a"));
    assert!(!group.is_vacant());
    assert_eq!(join(&mut group, request("a", ""), 1).try_recv().unwrap().error, None);
}

#[test]
fn an_invitation_runs_out() {
    let mut group = group();
    let newcomer = Join { member_id_required: true, ..request("", "a") };
    drop(join(&mut group, newcomer, 0));
    assert_eq!(group.next_deadline_ms(), Some(SESSION_MS));
    group.tick(SESSION_MS);
    assert!(group.is_vacant());
    assert_eq!(join(&mut group, request("a", ""), SESSION_MS).try_recv().unwrap().error, Some(UnknownMemberId));
}

#[test]
fn a_silent_member_is_dropped_and_the_others_rebalance() {
    let mut group = group();
    let generation = stable_pair(&mut group);
    group.heartbeat("a", None, generation, 9_000).unwrap();
    group.tick(SESSION_MS + 4);
    assert_eq!(group.state(), State::PreparingRebalance);
    assert_eq!(group.heartbeat("a", None, generation, 11_000), Err(RebalanceInProgress));
    assert_eq!(group.heartbeat("b", None, generation, 11_000), Err(UnknownMemberId));
    let alone = join(&mut group, request("a", ""), 12_000).try_recv().unwrap();
    assert_eq!((alone.generation, alone.members.len()), (generation + 1, 1));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut group = group();
    let generation = stable_pair(&mut group);
    let mut newcomer = join(&mut group, request("", "c"), 100);
    // Both keep their sessions alive, only `a` joins again.
    let mut a = join(&mut group, request("a", ""), 200);
    for now_ms in (0..REBALANCE_MS).step_by(5_000) {
        let _ = group.heartbeat("b", None, generation, now_ms);
        group.tick(now_ms);
    }
    assert_eq!(newcomer.try_recv().unwrap_err(), TryRecvError::Empty);
    group.tick(REBALANCE_MS + 100);
    assert_eq!(a.try_recv().unwrap().members.len(), 2);
    assert_eq!(newcomer.try_recv().unwrap().generation, generation + 1);
    assert_eq!(group.heartbeat("b", None, generation, REBALANCE_MS + 200), Err(UnknownMemberId));
}

#[test]
fn a_leader_that_never_syncs_is_out() {
    let mut group = group();
    let mut a = join(&mut group, request("", "a"), 0);
    assert_eq!(a.try_recv().unwrap().leader, "a");
    let mut b = join(&mut group, request("", "b"), 1);
    let _a = join(&mut group, request("a", ""), 2);
    assert_eq!(b.try_recv().unwrap().generation, 2);
    let mut b = sync(&mut group, "b", 2, &[], 3);
    group.heartbeat("a", None, 2, REBALANCE_MS - 1).unwrap();
    group.tick(REBALANCE_MS + 2);
    assert_eq!(b.try_recv().unwrap().error, Some(RebalanceInProgress));
    assert_eq!(group.members().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn generations_and_members_are_checked() {
    let mut group = group();
    let generation = stable_pair(&mut group);
    assert_eq!(group.heartbeat("a", None, generation - 1, 10), Err(IllegalGeneration));
    assert_eq!(group.heartbeat("nobody", None, generation, 10), Err(UnknownMemberId));
    assert_eq!(group.may_commit("a", None, generation - 1, 10), Err(IllegalGeneration));
    assert_eq!(group.may_commit("", None, -1, 10), Err(UnknownMemberId));
    assert_eq!(group.may_commit("a", None, generation, 10), Ok(()));
    assert_eq!(sync(&mut group, "a", 1, &[], 10).try_recv().unwrap().error, Some(IllegalGeneration));
    let stranger = Join { protocols: vec![("sticky".to_owned(), Bytes::new())], ..request("", "c") };
    assert_eq!(join(&mut group, stranger, 10).try_recv().unwrap().error, Some(InconsistentGroupProtocol));
    assert_eq!(group.state(), State::Stable);
}

#[test]
fn leaving_hands_over_at_once_and_the_last_empties_the_group() {
    let mut group = group();
    let generation = stable_pair(&mut group);
    group.leave("a", None, 10).unwrap();
    assert_eq!(group.heartbeat("b", None, generation, 11), Err(RebalanceInProgress));
    let b = join(&mut group, request("b", ""), 12).try_recv().unwrap();
    assert_eq!((b.leader.as_str(), b.members.len()), ("b", 1));
    group.leave("b", None, 13).unwrap();
    assert_eq!(group.state(), State::Empty);
    assert!(group.is_vacant());
    assert_eq!(group.leave("b", None, 14), Err(UnknownMemberId));
    assert_eq!(group.may_commit("", None, -1, 15), Ok(()));
}

#[test]
fn a_lost_answer_is_given_again_without_a_rebalance() {
    let mut group = group();
    let generation = stable_pair(&mut group);
    let again = join(&mut group, request("b", ""), 10).try_recv().unwrap();
    assert_eq!((again.error, again.generation), (None, generation));
    assert_eq!(sync(&mut group, "b", generation, &[], 11).try_recv().unwrap().assignment, "p1");
    assert_eq!(group.state(), State::Stable);
}

#[test]
fn a_static_member_comes_back_to_its_assignment_and_fences_its_old_self() {
    let mut group = group();
    let named = |member: &str, fresh: &str| Join { instance_id: Some("i".to_owned()), ..request(member, fresh) };
    drop(join(&mut group, request("", "a"), 0));
    let mut old = join(&mut group, named("", "old"), 1);
    drop(join(&mut group, request("a", ""), 2));
    assert_eq!(old.try_recv().unwrap().generation, 2);
    drop(sync(&mut group, "a", 2, &[("a", "p0"), ("old", "p1")], 3));
    let new = join(&mut group, named("", "new"), 10).try_recv().unwrap();
    assert_eq!((new.error, new.generation, new.member_id.as_str()), (None, 2, "new"));
    assert_eq!(group.state(), State::Stable);
    assert_eq!(sync(&mut group, "new", 2, &[], 11).try_recv().unwrap().assignment, "p1");
    assert_eq!(group.heartbeat("old", Some("i"), 2, 12), Err(FencedInstanceId));
    group.leave("", Some("i"), 13).unwrap();
    assert_eq!(group.members().count(), 1);
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut group = Group::new(100, 10);
    let mut a = join(&mut group, request("", "a"), 0);
    let mut b = join(&mut group, request("", "b"), 50);
    assert_eq!(a.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!(group.next_deadline_ms(), Some(100));
    group.tick(100);
    assert_eq!(a.try_recv().unwrap().members.len(), 2);
    assert_eq!(b.try_recv().unwrap().generation, 1);
}

#[test]
fn a_group_has_room_for_so_many() {
    let mut group = Group::new(0, 2);
    drop(join(&mut group, Join { member_id_required: true, ..request("", "a") }, 0));
    drop(join(&mut group, request("", "b"), 0));
    assert_eq!(join(&mut group, request("", "c"), 0).try_recv().unwrap().error, Some(GroupMaxSizeReached));
}

#[test]
fn everybody_waiting_is_let_go_at_the_end() {
    let mut group = Group::new(100, 10);
    let mut a = join(&mut group, request("", "a"), 0);
    group.dismiss();
    assert_eq!(a.try_recv().unwrap().error, Some(NotCoordinator));
}

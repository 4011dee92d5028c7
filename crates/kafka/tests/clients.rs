//! Other people's clients against the broker. Run with `cargo test -p playhouse-kafka -- --ignored`.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Broker, PARTITIONS, TOPIC};

const PATIENCE: Duration = Duration::from_secs(60);

fn kcat(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", &broker.bootstrap()]).args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(command: &mut Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run kcat ({error}): install it, on Debian `apt install kcat`"))
}

/// Runs to the end with this input, off the runtime's threads.
async fn run(mut command: Command, input: String) -> Output {
    let finish = tokio::task::spawn_blocking(move || {
        let mut child = spawn(&mut command);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = tokio::time::timeout(PATIENCE, finish).await.expect("kcat ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn lines(output: &[u8]) -> Vec<String> {
    String::from_utf8(output.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kcat"]
async fn kcat_produces_with_every_compression_and_consumes_it_all() {
    let broker = Broker::start().await;
    let mut expected = BTreeSet::new();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let sent: Vec<String> = (0..1000).map(|number| format!("{compression} {number}")).collect();
        let arguments = ["-P", "-t", TOPIC, "-z", compression, "-X", "enable.idempotence=true"];
        run(kcat(&broker, &arguments), sent.join("\n")).await;
        expected.extend(sent);
    }
    let output = run(kcat(&broker, &["-C", "-t", TOPIC, "-e", "-q"]), String::new()).await;
    let consumed = lines(&output.stdout);
    assert_eq!(consumed.len(), expected.len());
    assert_eq!(consumed.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kcat"]
async fn kcat_lists_topics_and_makes_them() {
    let broker = Broker::start().await;
    run(kcat(&broker, &["-P", "-t", "fresh"]), "one\n".to_owned()).await;
    let listed = String::from_utf8(run(kcat(&broker, &["-L"]), String::new()).await.stdout).unwrap();
    assert!(listed.contains(&format!("topic \"{TOPIC}\" with {PARTITIONS} partitions")), "{listed}");
    assert!(listed.contains("topic \"fresh\" with"), "{listed}");
    assert!(listed.contains(&format!("broker 1 at {}", broker.bootstrap())), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kcat"]
async fn two_kcats_of_one_group_share_the_partitions_and_their_offsets_stay() {
    let broker = Broker::start().await;
    let group = ["-G", "readers", "-q", "-u", "-X", "auto.offset.reset=earliest", TOPIC];
    let mut members = [spawn(&mut kcat(&broker, &group)), spawn(&mut kcat(&broker, &group))];
    assigned(&broker, 2).await;
    for partition in 0..PARTITIONS {
        let partition = partition.to_string();
        let sent: String = (0..100).map(|number| format!("{partition}-{number}\n")).collect();
        run(kcat(&broker, &["-P", "-t", TOPIC, "-p", &partition]), sent).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while committed(&broker).await < 200 {
        assert!(Instant::now() < deadline, "the group has committed {} offsets", committed(&broker).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut consumed = Vec::new();
    for member in &mut members {
        let stop = Command::new("kill").args(["-INT", &member.id().to_string()]).status().unwrap();
        assert!(stop.success());
    }
    for member in members {
        let output = tokio::task::spawn_blocking(move || member.wait_with_output()).await.unwrap().unwrap();
        let own = lines(&output.stdout);
        let partitions: BTreeSet<_> = own.iter().map(|line| line.split('-').next().unwrap().to_owned()).collect();
        assert_eq!(partitions.len(), 1, "each member reads one partition: {partitions:?}");
        consumed.extend(own);
    }
    assert_eq!(consumed.len(), 200);
    assert_eq!(consumed.iter().collect::<BTreeSet<_>>().len(), 200);
    // Whoever comes next begins where they ended.
    let broker = broker.restart().await;
    let next = ["-G", "readers", "-e", "-q", "-X", "auto.offset.reset=earliest", TOPIC];
    assert!(run(kcat(&broker, &next), String::new()).await.stdout.is_empty());
}

/// Waits until the group is stable with so many members.
async fn assigned(broker: &Broker, members: usize) {
    use kafka_protocol::messages::{DescribeGroupsRequest, GroupId};
    use kafka_protocol::protocol::StrBytes;
    let mut client = broker.client().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let group = GroupId(StrBytes::from_static_str("readers"));
        let response = client.call(5, &DescribeGroupsRequest::default().with_groups(vec![group])).await;
        let group = &response.groups[0];
        if group.group_state.as_str() == "Stable" && group.members.len() == members {
            return;
        }
        assert!(Instant::now() < deadline, "{group:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The sum of the group's committed offsets.
async fn committed(broker: &Broker) -> i64 {
    use kafka_protocol::messages::{GroupId, OffsetFetchRequest};
    use kafka_protocol::protocol::StrBytes;
    let request =
        OffsetFetchRequest::default().with_group_id(GroupId(StrBytes::from_static_str("readers"))).with_topics(None);
    let response = broker.client().await.call(5, &request).await;
    response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.committed_offset).sum()
}

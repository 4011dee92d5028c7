use std::path::Path;

use super::*;

fn load(file: &str, environment: &[(&str, &str)], args: ConfigArgs) -> Result<Config> {
    let mut settings = Settings::defaults()?;
    settings.read_text(file, Path::new("my.toml"))?;
    settings.read_environment(environment.iter().map(|(name, text)| (name.to_string(), text.to_string())))?;
    if let Some(data) = &args.data {
        settings.set_text("data", Origin::Flag("--data"), &data.to_string_lossy())?;
    }
    for assignment in &args.set {
        settings.read_assignment(assignment)?;
    }
    Config::from_settings(settings)
}

fn file(file: &str) -> Result<Config> {
    load(file, &[], ConfigArgs::default())
}

fn complaint(result: Result<Config>) -> String {
    format!("{:#}", result.expect_err("an error"))
}

#[test]
fn the_defaults_are_valid() {
    let config = file("").unwrap();
    assert_eq!(config.topic, "multimedia_events");
    assert_eq!(config.ingest.door.address().to_string(), "127.0.0.1:60000");
    assert_eq!(config.lake, Path::new("./playhouse-data/lake"));
    assert_eq!(config.tables, Tables::Embedded);
    assert_eq!(config.embedded_log.retention_bytes, None);
    assert!(config.settings.iter().all(|(_, setting)| setting.origin == Origin::Default));
}

/// A setting that nothing reads would be accepted and ignored.
#[test]
fn every_setting_is_read() {
    let defaults = Settings::defaults().unwrap();
    for (key, setting) in defaults.iter() {
        let wrong = match setting.value {
            Value::Text(_) => "",
            Value::Integer(_) => "-1",
            Value::Flag(_) => continue,
        };
        let complaint =
            complaint(load("", &[], ConfigArgs { set: vec![format!("{key}={wrong}")], ..Default::default() }));
        assert!(complaint.contains(key), "{key}: {complaint}");
    }
}

#[test]
fn layers_win_in_order_and_are_remembered() {
    let text = "topic = \"a\"\n\n[ingest]\nport = 1\n[kafka]\nport = 1\n[admin]\nport = 1\n";
    let environment = [
        ("KAFKA_TOPIC", "b"),
        ("PLAYHOUSE_KAFKA__PORT", "2"),
        ("PLAYHOUSE_ADMIN__PORT", "2"),
        ("PLAYHOUSE_CONFIG", "x.toml"),
        ("OTHER", "x"),
    ];
    let args = ConfigArgs { data: Some("d".into()), set: vec!["admin.port = 3".into()], ..Default::default() };
    let config = load(text, &environment, args).unwrap();
    assert_eq!((config.ingest.door.port, config.kafka.door.port, config.admin.port), (1, 2, 3));
    assert_eq!((config.topic.as_str(), config.lake.as_path()), ("b", Path::new("d/lake")));
    assert_eq!(config.origin("ingest.port"), "my.toml:4");
    assert_eq!(config.origin("kafka.port"), "environment PLAYHOUSE_KAFKA__PORT");
    assert_eq!(config.origin("admin.port"), "--set");
    assert_eq!(config.origin("data"), "--data");
    assert_eq!(config.origin("redis.port"), "default");
    let both = [("PLAYHOUSE_TOPIC", "mine"), ("KAFKA_TOPIC", "theirs")];
    assert_eq!(load("", &both, ConfigArgs::default()).unwrap().topic, "mine");
}

#[test]
fn unknown_keys_name_their_place_and_the_nearest() {
    let complain = |text| complaint(file(text));
    assert!(
        complain("topic = \"x\"\ntabels = \"none\"\n")
            .starts_with("my.toml:2: unknown setting \"tabels\": did you mean tables?")
    );
    assert!(complain("[ingest]\nprot = 1\n").contains("did you mean ingest.port?"));
    assert!(complain("epoch_rows = 1\n").contains("did you mean pipeline.epoch_rows?"));
    assert!(complain("\n[ingestt]\n").starts_with("my.toml:2: unknown section [ingestt]: did you mean [ingest]?"));
    assert!(complain("[log]\nretention = \"1 day\"\n").contains("\"log\" is one value, not a section"));
    assert!(complain("search = \"embedded\"\n").contains("not supported yet"));
    assert!(complain("[documents]\n").contains("not supported yet"));
    let environment = load("", &[("PLAYHOUSE_TABELS", "none")], ConfigArgs::default());
    assert!(
        complaint(environment)
            .contains("environment PLAYHOUSE_TABELS: unknown setting \"tabels\": did you mean PLAYHOUSE_TABLES?")
    );
    let set = load("", &[], ConfigArgs { set: vec!["ingest.prot=1".into()], ..Default::default() });
    assert!(complaint(set).contains("--set: unknown setting"));
}

#[test]
fn wrong_values_name_setting_place_and_remedy() {
    let complain = |text| complaint(file(text));
    assert!(complain("topic = \n").starts_with("my.toml:1: not valid TOML"));
    assert_eq!(
        complain("[ingest]\nport = \"x\"\n"),
        "my.toml:2: setting ingest.port is \"x\", but has to be a whole number"
    );
    assert!(
        complain("[ingest]\nport = 70000\n")
            .contains("my.toml:2: setting ingest.port = 70000 is not between 0 and 65535")
    );
    assert!(complain("[limits]\nevent_bytes = \"12\"\n").contains("with its unit"));
    assert!(complain("cache_ttl = \"0 s\"\n").contains("more than nothing"));
    assert!(complain("[embedded_log]\nretention = \"soon\"\n").contains("or \"forever\""));
    assert!(complain("topic = \"bad_events\"\n").contains("choose another"));
    assert!(complain("log = \"kafka://a:9092\"\n").contains("not supported yet"));
    assert!(
        complain("[limits]\nin_flight_bytes = \"1 MiB\"\n")
            .contains("limits.request_bytes = 64 MiB (default) is more than")
    );
    assert!(complain("lake = \"file:{data}\"\n").contains("directory of its own"));
    let environment = load("", &[("PLAYHOUSE_INGEST__PORT", "many")], ConfigArgs::default());
    assert!(complaint(environment).contains("environment PLAYHOUSE_INGEST__PORT: setting ingest.port is \"many\""));
}

#[test]
fn remote_doors_have_to_be_asked_for_in_so_many_words() {
    let refused = complaint(file("[admin]\nhost = \"0.0.0.0\"\n"));
    assert!(
        refused.contains("admin.host") && refused.contains("allow_remote_without_authentication = true"),
        "{refused}"
    );
    let config = file("allow_remote_without_authentication = true\n[admin]\nhost = \"0.0.0.0\"\n").unwrap();
    assert_eq!(config.admin.address().to_string(), "0.0.0.0:8080");
    let config = file("auth = \"keys\"\n[admin]\nhost = \"0.0.0.0\"\n[kafka]\nhost = \"0.0.0.0\"\n").unwrap();
    assert_eq!(config.auth, Auth::Keys);
    assert!(refused.contains("auth = \"keys\""), "{refused}");
    for never in ["postgres", "redis"] {
        let refused = complaint(file(&format!("auth = \"keys\"\n[{never}]\nhost = \"0.0.0.0\"\n")));
        assert!(refused.contains("no password") && !refused.contains("auth = "), "{refused}");
    }
    assert_eq!(file("[admin]\nhost = \"::1\"\n").unwrap().admin.address().to_string(), "[::1]:8080");
}

#[test]
fn passwords_do_not_leave_the_configuration() {
    let config = file("tables = \"postgres://me:hunter2@db/app\"\n").unwrap();
    let shown: String = config.settings.iter().map(|(key, setting)| format!("{key} = {}\n", setting.value)).collect();
    assert!(shown.contains("tables = \"postgres://me:***@db/app\"") && !shown.contains("hunter2"));
    let wrong = complaint(file("tables = \"mysql://me:hunter2@db/app\"\n"));
    assert!(wrong.contains("me:***@db") && !wrong.contains("hunter2"), "{wrong}");
    let wrong = load("", &[("PLAYHOUSE_INGEST__PORT", "x://me:hunter2@db")], ConfigArgs::default());
    assert!(!complaint(wrong).contains("hunter2"));
}

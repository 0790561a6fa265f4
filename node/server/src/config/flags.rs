//! Every flag of the node in one table: etcd's names, what each means here, and its default. Reads command line,
//! environment and file into values; it does not interpret them.

use std::collections::BTreeMap;

/// How much of a flag is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does what it says.
    Works,
    /// Taken so that etcd's start lines keep working; changes nothing here.
    Ignored,
    /// Refused if it is set to anything but its default: silence would mislead.
    NotThereYet,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// Its value if it is not given.
    pub default: &'static str,
    /// Whether it may stand without a value.
    pub switch: bool,
    /// How much of it is there.
    pub support: Support,
    /// One sentence.
    pub help: &'static str,
}

const fn works(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, switch: false, support: Support::Works, help }
}
const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, default: "false", switch: true, support: Support::Works, help }
}
const fn ignored(name: &'static str, default: &'static str) -> Flag {
    Flag { name, default, switch: false, support: Support::Ignored, help: "" }
}
const fn ignored_switch(name: &'static str, default: &'static str) -> Flag {
    Flag { name, default, switch: true, support: Support::Ignored, help: "" }
}
const fn absent(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, switch: false, support: Support::NotThereYet, help }
}
const fn absent_switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, default: "false", switch: true, support: Support::NotThereYet, help }
}

/// The table.
pub const FLAGS: &[Flag] = &[
    works("name", "default", "this member's name; must be in --initial-cluster when the cluster is new"),
    works("data-dir", "", "where everything is kept; default ${name}.quorate"),
    works(
        "listen-client-urls",
        "http://localhost:2379",
        "where clients are served (gRPC and HTTP); https:// turns TLS on",
    ),
    works("advertise-client-urls", "http://localhost:2379", "what other clients are told to use"),
    works("listen-peer-urls", "http://localhost:2380", "where the other members reach this one"),
    works(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "what the other members use to reach this one",
    ),
    works(
        "initial-cluster",
        "",
        "name=peer-url pairs of all members, comma-separated; used at the first start only",
    ),
    works(
        "initial-cluster-state",
        "new",
        "new: bootstrap with --initial-cluster; existing: join after a member add",
    ),
    works(
        "initial-cluster-witnesses",
        "",
        "names in --initial-cluster, comma-separated, of members that vote and hold no data; the same on every member",
    ),
    works("initial-cluster-token", "etcd-cluster", "keeps clusters apart that have the same URLs"),
    works("consensus", "Raft", "Raft | MultiPaxos | Zab: how members agree; fixed at the first start"),
    works("zone", "", "the zone this member runs in, as the cluster is told"),
    works("leader-priority", "0", "a voter in sync with a higher one takes over leadership"),
    works("heartbeat-interval", "100", "milliseconds between a leader's heartbeats"),
    works("election-timeout", "1000", "milliseconds without a leader before an election"),
    works("quota-backend-bytes", "0", "no writes above this size; 0 is no quota"),
    works("max-request-bytes", "1572864", "the largest request"),
    works("max-txn-ops", "128", "operations in one transaction"),
    works("max-concurrent-streams", "250", "gRPC streams per connection"),
    works("max-learners", "1", "learners at a time"),
    works(
        "watch-progress-notify-interval",
        "10m",
        "how often idle watches with progress_notify are told the revision",
    ),
    works("cert-file", "", "certificate for clients (PEM, reloaded when it changes)"),
    works("key-file", "", "its private key"),
    works("trusted-ca-file", "", "whose client certificates are taken (PEM, reloaded when it changes)"),
    switch("client-cert-auth", "clients must have a certificate"),
    works("peer-cert-file", "", "certificate for peers, used on both ends"),
    works("peer-key-file", "", "its private key"),
    works("peer-trusted-ca-file", "", "whose peer certificates are taken"),
    switch("peer-client-cert-auth", "peers must have a certificate"),
    works("tls-min-version", "TLS1.3", "TLS1.2 lets older clients in"),
    works("tls-max-version", "", "TLS1.2 or TLS1.3"),
    works("listen-metrics-urls", "", "more addresses for /metrics and /health, without client certificates"),
    works("log-level", "info", "error | warn | info | debug | trace"),
    works("log-format", "text", "text | json"),
    works("config-file", "", "a YAML file with these names as keys; flags and variables win over it"),
    absent_switch("auto-tls", "TLS with certificates made up by the server"),
    absent_switch("peer-auto-tls", "TLS between peers with certificates made up"),
    absent_switch("force-new-cluster", "a cluster of one from a lost quorum's data"),
    absent("client-crl-file", "", "revoked client certificates"),
    absent("peer-crl-file", "", "revoked peer certificates"),
    absent("client-cert-allowed-hostname", "", "names of client certificates"),
    absent("peer-cert-allowed-cn", "", "names of peer certificates"),
    absent("peer-cert-allowed-hostname", "", "names of peer certificates"),
    absent("listen-client-http-urls", "", "HTTP apart from gRPC"),
    absent("discovery", "", "bootstrap by a discovery service"),
    absent("discovery-token", "", "bootstrap by a discovery service"),
    absent("discovery-endpoints", "", "bootstrap by a discovery service"),
    absent("discovery-srv", "", "bootstrap by DNS"),
    absent("cipher-suites", "", "a choice of cipher suites"),
    absent("auto-compaction-retention", "0", "compaction by age or revisions"),
    ignored("auto-compaction-mode", "periodic"),
    ignored("auth-token", "simple"),
    ignored("auth-token-ttl", "300"),
    ignored("bcrypt-cost", "10"),
    ignored("wal-dir", ""),
    ignored("snapshot-count", "10000"),
    ignored("snapshot-catchup-entries", "5000"),
    ignored("max-snapshots", "5"),
    ignored("max-wals", "5"),
    ignored("backend-bbolt-freelist-type", "map"),
    ignored("backend-batch-interval", ""),
    ignored("backend-batch-limit", "0"),
    ignored("grpc-keepalive-min-time", "5s"),
    ignored("grpc-keepalive-interval", "2h"),
    ignored("grpc-keepalive-timeout", "20s"),
    ignored("compaction-batch-limit", "1000"),
    ignored("compaction-sleep-interval", "10ms"),
    ignored("compact-hash-check-time", "1m"),
    ignored("corrupt-check-time", "0s"),
    ignored("feature-gates", ""),
    ignored("bootstrap-defrag-threshold-megabytes", "0"),
    ignored("warning-apply-duration", "100ms"),
    ignored("warning-unary-request-duration", "300ms"),
    ignored("downgrade-check-time", "5s"),
    ignored("memory-mlock", "false"),
    ignored("metrics", "basic"),
    ignored("logger", "zap"),
    ignored("log-outputs", "default"),
    ignored("log-rotation-config-json", ""),
    ignored("cors", "*"),
    ignored("host-whitelist", "*"),
    ignored("discovery-srv-name", ""),
    ignored("distributed-tracing-address", "localhost:4317"),
    ignored("distributed-tracing-service-name", "etcd"),
    ignored("distributed-tracing-instance-id", ""),
    ignored("distributed-tracing-sampling-rate", "0"),
    ignored("raft-read-timeout", "5s"),
    ignored("raft-write-timeout", "5s"),
    ignored("v2-deprecation", ""),
    ignored_switch("enable-distributed-tracing", "false"),
    ignored_switch("enable-log-rotation", "false"),
    ignored_switch("enable-pprof", "false"),
    ignored_switch("enable-grpc-gateway", "true"),
    ignored_switch("strict-reconfig-check", "true"),
    ignored_switch("pre-vote", "true"),
    ignored_switch("initial-election-tick-advance", "true"),
    ignored_switch("socket-reuse-port", "false"),
    ignored_switch("socket-reuse-address", "false"),
    ignored_switch("peer-skip-client-san-verification", "false"),
    ignored_switch("experimental-initial-corrupt-check", "false"),
];

/// Why a start line is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such flag.
    #[error("there is no flag --{0}; see --help")]
    Unknown(String),
    /// No such key.
    #[error("the configuration file has an unknown key {0:?}")]
    UnknownKey(String),
    /// A word where a flag should stand.
    #[error("unexpected argument {0:?}: flags start with --; see --help")]
    Stray(String),
    /// A flag without its value.
    #[error("--{0} needs a value")]
    NoValue(&'static str),
    /// Known, but not there.
    #[error("--{0} is not there yet ({1}): remove it")]
    NotThereYet(&'static str, &'static str),
    /// The configuration file.
    #[error("the configuration file {0} can't be read: {1}")]
    File(String, String),
}

/// Values by flag: given ones only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, String>);

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

impl Values {
    /// Reads the command line, over the environment, over the configuration file.
    ///
    /// # Errors
    /// What is not understood, or not there yet.
    pub fn read(
        arguments: impl IntoIterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, FlagError> {
        let mut values = Self::default();
        for flag in FLAGS {
            let name = format!("ETCD_{}", flag.name.replace('-', "_").to_uppercase());
            if let Some(value) = variable(&name) {
                values.0.insert(flag.name, value);
            }
        }
        values.command_line(arguments)?;
        if let Some(path) = values.0.get("config-file").filter(|path| !path.is_empty()).cloned() {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| FlagError::File(path.clone(), error.to_string()))?;
            let mut file = Self::from_yaml(&path, &text)?;
            file.0.append(&mut values.0);
            values = file;
        }
        for flag in FLAGS {
            let set = values.0.get(flag.name).is_some_and(|value| value != flag.default);
            if set && flag.support == Support::NotThereYet {
                return Err(FlagError::NotThereYet(flag.name, flag.help));
            }
        }
        Ok(values)
    }

    fn command_line(&mut self, arguments: impl IntoIterator<Item = String>) -> Result<(), FlagError> {
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(body) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                return Err(FlagError::Stray(argument));
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let flag = find(name).ok_or_else(|| FlagError::Unknown(name.to_owned()))?;
            let value = match value {
                Some(value) => value,
                None if flag.switch => "true".to_owned(),
                None => arguments.next().ok_or(FlagError::NoValue(flag.name))?,
            };
            self.0.insert(flag.name, value);
        }
        Ok(())
    }

    /// etcd's file: the flags' names as keys, and two sections for TLS.
    fn from_yaml(path: &str, text: &str) -> Result<Self, FlagError> {
        let malformed = |error: &dyn std::fmt::Display| FlagError::File(path.to_owned(), error.to_string());
        let document: BTreeMap<String, serde_yaml::Value> =
            serde_yaml::from_str(text).map_err(|error| malformed(&error))?;
        let mut values = Self::default();
        for (key, value) in document {
            let prefix = match key.as_str() {
                "client-transport-security" => "",
                "peer-transport-security" => "peer-",
                _ => {
                    let flag = find(&key).ok_or(FlagError::UnknownKey(key))?;
                    values.0.insert(flag.name, scalar(&value));
                    continue;
                }
            };
            let section: BTreeMap<String, serde_yaml::Value> =
                serde_yaml::from_value(value).map_err(|error| malformed(&error))?;
            for (key, value) in section {
                let name = format!("{prefix}{key}");
                let flag = find(&name).ok_or(FlagError::UnknownKey(name))?;
                values.0.insert(flag.name, scalar(&value));
            }
        }
        Ok(values)
    }

    /// A flag's value, or its default.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let default = find(name).map_or("", |flag| flag.default);
        self.0.get(name).map_or(default, String::as_str)
    }

    /// Whether it was given.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Given flags that change nothing here.
    pub fn ignored(&self) -> impl Iterator<Item = &'static str> {
        FLAGS
            .iter()
            .filter(|flag| flag.support == Support::Ignored && self.is_set(flag.name))
            .map(|flag| flag.name)
    }
}

fn scalar(value: &serde_yaml::Value) -> String {
    match value {
        serde_yaml::Value::Bool(value) => value.to_string(),
        serde_yaml::Value::Number(value) => value.to_string(),
        serde_yaml::Value::String(value) => value.clone(),
        serde_yaml::Value::Sequence(values) => values.iter().map(scalar).collect::<Vec<_>>().join(","),
        serde_yaml::Value::Null | serde_yaml::Value::Mapping(_) | serde_yaml::Value::Tagged(_) => {
            String::new()
        }
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "quorate-node: one member of a Quorate store, which speaks the etcd v3 API.\n\n\
         Try it:   quorate-node --data-dir /tmp/q1\n          etcdctl --endpoints localhost:2379 put hello world\n\n\
         Every flag may also be a variable (ETCD_DATA_DIR=...) or a key of --config-file.\n\nFlags:\n",
    );
    for flag in FLAGS.iter().filter(|flag| flag.support == Support::Works) {
        let default = if flag.default.is_empty() || flag.switch {
            String::new()
        } else {
            format!(" [{}]", flag.default)
        };
        text.push_str(&format!("  --{:<32} {}{default}\n", flag.name, flag.help));
    }
    for (support, title) in [
        (Support::NotThereYet, "\nNot there yet, refused if set:\n"),
        (Support::Ignored, "\nTaken for etcd's sake, without effect:\n"),
    ] {
        text.push_str(title);
        for flag in FLAGS.iter().filter(|flag| flag.support == support) {
            text.push_str(&format!("  --{}\n", flag.name));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Values, FlagError> {
        Values::read(arguments.iter().map(|&argument| argument.to_owned()), |name| {
            (name == "ETCD_NAME").then(|| "from-environment".to_owned())
        })
    }

    #[test]
    fn both_forms_and_switches() {
        let values =
            read(&["--data-dir", "d", "--zone=z", "--client-cert-auth", "--log-level", "debug"]).unwrap();
        assert_eq!((values.get("data-dir"), values.get("zone")), ("d", "z"));
        assert_eq!((values.get("client-cert-auth"), values.get("name")), ("true", "from-environment"));
        assert_eq!(read(&["--client-cert-auth=false"]).unwrap().get("client-cert-auth"), "false");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(read(&["--no-such"]), Err(FlagError::Unknown("no-such".into())));
        assert_eq!(read(&["--data-dir"]), Err(FlagError::NoValue("data-dir")));
        assert!(matches!(read(&["--auto-tls"]), Err(FlagError::NotThereYet("auto-tls", _))));
        assert!(read(&["--auto-tls=false"]).is_ok());
    }

    #[test]
    fn a_file_lies_below_flags() {
        let yaml = "name: f\nheartbeat-interval: 50\nclient-transport-security:\n  cert-file: c\npeer-transport-security:\n  cert-file: p\n";
        let values = Values::from_yaml("x", yaml).unwrap();
        assert_eq!((values.get("cert-file"), values.get("peer-cert-file")), ("c", "p"));
        assert_eq!((values.get("name"), values.get("heartbeat-interval")), ("f", "50"));
    }
}

//! What members are told at their start, and what the operator must never forget: zones, founders, whether the bootstrap
//! is over. It lives apart from the status, which may be lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::Names;
use crate::placement::{Place, place};

/// The record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where members may live, in order.
    pub zones: Vec<String>,
    /// The founding members' places.
    pub founders: Vec<Place>,
    /// The cluster's id, once the bootstrap is over.
    pub cluster_id: Option<u64>,
}

impl Record {
    /// As a ConfigMap's data; `members` are the pods that a newcomer may ask.
    #[must_use]
    pub fn data(
        &self,
        names: &Names,
        witness_zones: &BTreeSet<String>,
        members: &[Place],
    ) -> BTreeMap<String, String> {
        let founders: Vec<&str> = self.founders.iter().map(|place| place.pod.as_str()).collect();
        let known = if self.cluster_id.is_some() { members } else { &self.founders };
        let initial: Vec<String> =
            known.iter().map(|place| format!("{}={}", place.pod, names.peer_url(&place.pod))).collect();
        let state = if self.cluster_id.is_some() { "existing" } else { "new" };
        let mut data = BTreeMap::from([
            ("zones".to_owned(), self.zones.join(",")),
            ("founders".to_owned(), founders.join(",")),
            ("initial-cluster".to_owned(), initial.join(",")),
            ("initial-cluster-state".to_owned(), state.to_owned()),
        ]);
        // Only clusters that have witnesses name them: a ConfigMap of others stays what it was.
        if !witness_zones.is_empty() {
            let witnesses = self.founders.iter().filter(|place| witness_zones.contains(&place.zone));
            let witnesses: Vec<&str> = witnesses.map(|place| place.pod.as_str()).collect();
            data.insert("initial-cluster-witnesses".to_owned(), witnesses.join(","));
        }
        if let Some(id) = self.cluster_id {
            data.insert("cluster-id".to_owned(), format!("{id:x}"));
        }
        data
    }

    /// Back from a ConfigMap's data; `None` if it is not such a record.
    #[must_use]
    pub fn read(names: &Names, data: &BTreeMap<String, String>) -> Option<Self> {
        let zones: Vec<String> = data.get("zones")?.split(',').map(str::to_owned).collect();
        let founders =
            data.get("founders")?.split(',').map(|pod| place(names, &zones, pod)).collect::<Option<_>>()?;
        let cluster_id = match data.get("cluster-id") {
            Some(id) => Some(u64::from_str_radix(id, 16).ok()?),
            None => None,
        };
        Some(Self { zones, founders, cluster_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::places;

    #[test]
    fn a_record_is_read_back() {
        let names = Names { cluster: "c".into(), namespace: "n".into() };
        let zones = vec!["a".to_owned(), "b".to_owned()];
        let founders = places(&names, &zones, 3);
        let none = BTreeSet::new();
        let mut record = Record { zones: zones.clone(), founders, cluster_id: None };
        assert_eq!(Record::read(&names, &record.data(&names, &none, &[])).as_ref(), Some(&record));
        assert_eq!(record.data(&names, &none, &[])["initial-cluster-state"], "new");
        record.cluster_id = Some(0xab);
        let data = record.data(&names, &none, &places(&names, &zones, 5));
        assert_eq!(data["initial-cluster-state"], "existing");
        assert_eq!(data["initial-cluster"].matches('=').count(), 5);
        assert_eq!(Record::read(&names, &data), Some(record));
        assert_eq!(Record::read(&names, &BTreeMap::new()), None);
    }

    #[test]
    fn founding_witnesses_are_named() {
        let names = Names { cluster: "c".into(), namespace: "n".into() };
        let zones = ["a", "b", "w"].map(str::to_owned).to_vec();
        let record = Record { founders: places(&names, &zones, 5), zones: zones.clone(), cluster_id: None };
        let data = record.data(&names, &BTreeSet::from(["w".to_owned()]), &[]);
        assert_eq!(data["initial-cluster-witnesses"], "c-w-0");
        assert_eq!(Record::read(&names, &data), Some(record));
    }
}

//! Which member lives where: around the zones, so that any number of members is spread as evenly as can be.

use crate::names::Names;

/// The place of a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its pod.
    pub pod: String,
    /// Its zone.
    pub zone: String,
    /// Its place in the zone's StatefulSet.
    pub ordinal: u32,
}

/// The places of the first `count` members; more members keep the places of fewer.
#[must_use]
pub fn places(names: &Names, zones: &[String], count: u32) -> Vec<Place> {
    let in_zone = u32::try_from(zones.len()).unwrap_or(u32::MAX).max(1);
    (0..count)
        .zip(zones.iter().cycle())
        .map(|(number, zone)| {
            let ordinal = number / in_zone;
            Place { pod: names.pod(zone, ordinal), zone: zone.clone(), ordinal }
        })
        .collect()
}

/// The place that a pod's name stands for.
#[must_use]
pub fn place(names: &Names, zones: &[String], pod: &str) -> Option<Place> {
    let rest = pod.strip_prefix(&names.cluster)?.strip_prefix('-')?;
    let (zone, ordinal) = rest.rsplit_once('-')?;
    let ordinal = ordinal.parse().ok()?;
    zones.iter().any(|known| known == zone).then(|| Place { pod: pod.into(), zone: zone.into(), ordinal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_around_the_zones() {
        let names = Names { cluster: "c".into(), namespace: "n".into() };
        let zones = ["a".to_owned(), "b-1".to_owned()];
        let pods: Vec<String> = places(&names, &zones, 5).into_iter().map(|place| place.pod).collect();
        assert_eq!(pods, ["c-a-0", "c-b-1-0", "c-a-1", "c-b-1-1", "c-a-2"]);
        for wanted in places(&names, &zones, 5) {
            assert_eq!(place(&names, &zones, &wanted.pod), Some(wanted));
        }
        assert_eq!(place(&names, &zones, "c-x-0"), None);
    }
}

//! One machine of the world: a member's process, its disk, and its clock.

use std::sync::Arc;

use quorate_consensus::config::Config;
use quorate_consensus::id::{MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::Membership;
use quorate_replica::error::BootError;
use quorate_replica::host::{Host, HostConfig, Retention};
use quorate_state::watch::ring::Ring;
use quorate_storage::backend::memory::MemoryBackend;
use quorate_storage::disk::sim::SimDisk;
use quorate_storage::wal;

use super::clock::Clock;
use super::upgrades::Version;
use crate::random::Random;

/// A machine, up or down.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) disk: SimDisk,
    pub(super) backend: MemoryBackend,
    /// The process; `None` while it is down.
    pub(super) host: Option<Host>,
    /// Starts and ends so far: what was under way before one belongs to nobody.
    pub(super) boots: u64,
    /// The membership that it starts with for the first time.
    pub(super) initial: Membership,
    pub(super) clock: Clock,
    /// Nothing happens in it before.
    pub(super) paused_until: Time,
    /// A sync takes up to this long.
    pub(super) sync_ms_max: u64,
    /// Its disk failed since it started.
    pub(super) disk_failed: bool,
    /// Its data is lost or damaged: it does not start again, and the operator replaces it.
    pub(super) lost: bool,
    /// It was removed from the cluster: it does not start again.
    pub(super) retired: bool,
    /// The membership that it knew last.
    pub(super) membership: Membership,
    /// The newest events that the process published.
    pub(super) ring: Ring,
    /// Its program.
    pub(super) version: Version,
}

/// A sync of a healthy disk.
const SYNC_MS_MAX: u64 = 8;

/// Revisions and bytes that a ring keeps: few, so that watches fall behind it.
const RING_REVISIONS_MAX: usize = 8;
const RING_BYTES_MAX: usize = 4 << 10;

fn new_ring() -> Ring {
    Ring::new(RING_REVISIONS_MAX, RING_BYTES_MAX)
}

impl Machine {
    pub(super) fn new(initial: Membership) -> Self {
        let membership = initial.clone();
        Self {
            disk: SimDisk::default(),
            backend: MemoryBackend::default(),
            host: None,
            boots: 0,
            initial,
            clock: Clock::default(),
            paused_until: Time(0),
            sync_ms_max: SYNC_MS_MAX,
            disk_failed: false,
            lost: false,
            retired: false,
            membership,
            ring: new_ring(),
            version: Version::old(),
        }
    }

    /// Its clock when the world's shows `now`.
    pub(super) fn local(&self, now: Time) -> Time {
        self.clock.at(now)
    }

    /// When it wants to act next, by the world's clock.
    pub(super) fn deadline(&self, now: Time) -> Option<Time> {
        let local = self.host.as_ref()?.deadline();
        Some(self.clock.when(local).max(now).max(self.paused_until))
    }

    /// Whether it never starts again.
    pub(super) fn is_gone(&self) -> bool {
        self.lost || self.retired
    }

    /// Starts the process from what the disk holds.
    pub(super) fn boot(
        &mut self,
        id: MemberId,
        protocol: ProtocolKind,
        seed: u64,
        now: Time,
    ) -> Result<(), BootError> {
        let mut consensus = Config::new(id, seed);
        // Small limits, so that they are met.
        consensus.append_bytes_max = if seed.is_multiple_of(2) { 512 } else { 64 };
        consensus.inflight_appends_max = 4;
        consensus.promotion_lag_max = 20;
        let config = HostConfig {
            cluster_id: 1,
            protocol,
            consensus,
            wal: wal::Config { segment_bytes_max: 4096, segment_headers_max: 64, cache_bytes_max: 1024 },
            retention: Retention { release_after: 40, catch_up_entries: 20, witness_headers: 60 },
            feature_level: self.version.level,
            initial: self.initial.clone(),
        };
        self.boots += 1;
        let (disk, backend) = (Arc::new(self.disk.clone()), Arc::new(self.backend.clone()));
        let host = Host::open(config, disk, backend, self.local(now))?;
        self.host = Some(host);
        self.ring = new_ring();
        Ok(())
    }

    /// The power fails: of what was not synced, chance decides what stays.
    pub(super) fn crash(&mut self, random: &mut Random) {
        self.host = None;
        self.boots += 1;
        self.paused_until = Time(0);
        self.disk.crash(|| random.chance(50));
        self.backend.crash(|unpersisted| random.below(unpersisted as u64 + 1) as usize);
    }

    /// The process ends: what it wrote stays in the page cache.
    pub(super) fn kill(&mut self) {
        self.host = None;
        self.boots += 1;
        self.disk.kill();
    }

    pub(super) fn repair_disk(&mut self) {
        self.sync_ms_max = SYNC_MS_MAX;
        self.disk.fail_syncs(false);
        self.disk.fail_writes(false);
        self.disk.fill(false);
        // What failed before is forgotten with the next start.
        self.disk_failed &= self.host.is_none();
    }
}

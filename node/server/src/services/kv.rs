//! KV: reads, writes, transactions, compaction.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};

use quorate_api::etcdserverpb::kv_server::Kv;
use quorate_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use quorate_state::command::CommandKind;
use quorate_state::reader::Reader;
use quorate_state::request::Range;
use quorate_state::response::{self, Body};

use super::{check, convert};
use crate::api_error;
use crate::node::Node;
use crate::scans::{Ended, Scans};

/// The service.
#[derive(Debug)]
pub(super) struct KvService(pub(super) Arc<Node>);

impl KvService {
    fn check_size(&self, size_bytes: usize) -> Result<(), Status> {
        if size_bytes > self.0.config.request_bytes_max {
            return Err(api_error::REQUEST_TOO_LARGE.into());
        }
        Ok(())
    }
}

/// A scan may read the disk for long, so it leaves the threads that serve connections alone; a point read does not pay for that.
async fn read(scans: &Scans, reader: Reader, range: Range) -> Result<response::RangeResponse, Status> {
    let result = if range.range_end.is_empty() {
        reader.range(&range)
    } else {
        scans.run(move || reader.range(&range)).await.map_err(|Ended| api_error::STOPPED)?
    };
    result.map_err(|error| api_error::read(&error))
}

/// Only a defect of this program makes it.
pub(super) fn other_kind() -> Status {
    Status::internal("quorate: an answer of another kind")
}

#[tonic::async_trait]
impl Kv for KvService {
    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        self.0.check_whole()?;
        check::range(&request)?;
        if !request.serializable && self.0.is_learner() {
            return Err(api_error::NOT_SUPPORTED_FOR_LEARNER.into());
        }
        let reader = self.0.reader(request.serializable).await?;
        let header = self.0.header(reader.revision());
        let response = read(&self.0.scans, reader, convert::range(request)).await?;
        Ok(Response::new(convert::range_response(header, response)))
    }

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(api_error::not_there_yet("RangeStream"))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        self.0.check_whole()?;
        check::put(&request)?;
        self.check_size(request.encoded_len())?;
        self.0.check_room()?;
        let response = self.0.command(CommandKind::Put(convert::put(request))).await?;
        let Body::Put { prev_kv } = response.body else { return Err(other_kind()) };
        let header = self.0.header(response.revision);
        Ok(Response::new(PutResponse { header, prev_kv: prev_kv.map(convert::key_value) }))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        self.0.check_whole()?;
        check::delete_range(&request)?;
        let response = self.0.command(CommandKind::DeleteRange(convert::delete_range(request))).await?;
        let Body::DeleteRange { deleted, prev_kvs } = response.body else { return Err(other_kind()) };
        let prev_kvs = prev_kvs.into_iter().map(convert::key_value).collect();
        Ok(Response::new(DeleteRangeResponse { header: self.0.header(response.revision), deleted, prev_kvs }))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        self.0.check_whole()?;
        check::txn(&request, self.0.config.txn_ops_max)?;
        self.check_size(request.encoded_len())?;
        if check::txn_puts(&request) {
            self.0.check_room()?;
        }
        let response = self.0.command(CommandKind::Txn(convert::txn(request))).await?;
        let Body::Txn(txn) = response.body else { return Err(other_kind()) };
        Ok(Response::new(TxnResponse {
            header: self.0.header(response.revision),
            succeeded: txn.succeeded,
            responses: convert::responses(txn.responses),
        }))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.0.check_whole()?;
        let response = self.0.command(CommandKind::Compact(request.into_inner().revision)).await?;
        Ok(Response::new(CompactionResponse { header: self.0.header(response.revision) }))
    }
}

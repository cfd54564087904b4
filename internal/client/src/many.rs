//! Calls for batches of sessions, templates, orphans and trash.

use hyper::Method;
use shed_api::git::{RestoreTrash, TrashList};
use shed_api::work::{
    Batch, BatchResult, CheckTemplate, CleanOrphans, Gc, GcReport, OrphanList, Template,
    TemplateList,
};

use crate::calls::shed_path;
use crate::{Client, ClientError};

impl Client {
    /// `POST /api/batch`.
    pub async fn batch(&self, request: &Batch) -> Result<BatchResult, ClientError> {
        self.send(Method::POST, "/api/batch", request).await
    }

    /// `GET /api/sheds/{n}/templates`.
    pub async fn templates(&self, shed: &str) -> Result<TemplateList, ClientError> {
        self.get(&format!("{}/templates", shed_path(shed))).await
    }

    /// `POST /api/sheds/{n}/gc`.
    pub async fn gc(&self, shed: &str, request: &Gc) -> Result<GcReport, ClientError> {
        self.send(Method::POST, &format!("{}/gc", shed_path(shed)), request).await
    }

    /// `POST /api/templates/check`.
    pub async fn check_template(&self, text: String) -> Result<Template, ClientError> {
        self.send(Method::POST, "/api/templates/check", &CheckTemplate { text }).await
    }

    /// `GET /api/sheds/{n}/orphans`.
    pub async fn orphans(&self, shed: &str) -> Result<OrphanList, ClientError> {
        self.get(&format!("{}/orphans", shed_path(shed))).await
    }

    /// `GET /api/sheds/{n}/trash`.
    pub async fn trash(&self, shed: &str) -> Result<TrashList, ClientError> {
        self.get(&format!("{}/trash", shed_path(shed))).await
    }

    /// `POST /api/sheds/{n}/orphans/clean`; returns the remaining orphans.
    pub async fn clean_orphans(
        &self,
        shed: &str,
        request: &CleanOrphans,
    ) -> Result<OrphanList, ClientError> {
        self.send(Method::POST, &format!("{}/orphans/clean", shed_path(shed)), request).await
    }

    /// `POST /api/sheds/{n}/trash/restore`.
    pub async fn restore_trash(
        &self,
        shed: &str,
        request: &RestoreTrash,
    ) -> Result<(), ClientError> {
        let path = format!("{}/trash/restore", shed_path(shed));
        self.send_only(Method::POST, &path, Some(request)).await
    }
}

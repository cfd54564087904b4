"use strict";
// The address may name an operation (#/TAG/ID), which Swagger UI opens, or a problem (#CODE), whose row is below the operations.
const row = document.querySelector("#problems").querySelector("#" + CSS.escape(location.hash.slice(1) || "none"));
if (row) {
  // The operations appear later and move the row; it is shown until the reader moves the page.
  const shown = new ResizeObserver(() => row.scrollIntoView({ block: "center" }));
  shown.observe(document.querySelector("#api"));
  for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"]) {
    addEventListener(kind, () => shown.disconnect(), { once: true, passive: true });
  }
}
SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#api",
  docExpansion: "none",
  deepLinking: !row,
  filter: true,
  showExtensions: true,
  defaultModelExpandDepth: 2,
  // The document is sent to no validator.
  validatorUrl: null,
});

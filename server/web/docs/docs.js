// The policy of these pages allows no inline script. Nothing is asked of other hosts: no validator, no fonts.
window.ui = SwaggerUIBundle({ url: "../openapi.json", dom_id: "#ui", validatorUrl: null, deepLinking: true, docExpansion: "none" });

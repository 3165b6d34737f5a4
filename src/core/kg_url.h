
/*
 * Links in errors, which others follow: in an answer, a page or a terminal.
 */

#ifndef KG_URL_H
#define KG_URL_H

#include "kg_core.h"


#define KG_URL_MAX  1024    /* bytes in a link */

/*
 * 1 for "https://" or "http://" and at least one more of the characters of a
 * URL (RFC 3986), which may stand in JSON, HTML and a terminal as they are.
 */
int kg_url_valid(const kg_str_t *url);

/*
 * 1 for what may be the instance of a problem (RFC 9457, 3.1.5): such a URL, a
 * path, or a "urn:".
 */
int kg_url_reference_valid(const kg_str_t *url);

#endif

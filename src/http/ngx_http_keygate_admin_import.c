
/*
 * POST /import: puts an export back, or says what that would change.
 *
 *     check    every line, and against what Redis has; a line that is refused
 *              refuses the import before anything is written
 *     lower    organisations whose access becomes less, or stays
 *     keys
 *     raise    the other organisations
 *
 * In this order a key is at no moment allowed what it was not before and is
 * not to be: while keys change from the old to the new, organisations have the
 * lesser access of both.  The body is read anew in each pass, a batch of lines
 * at a time.  A batch in which somebody else has changed a record is read and
 * written again, and so is an import that was cut off: what is as it should be
 * is left alone.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_admin_import.h"


static void ngx_http_keygate_admin_import_cleanup(void *data);
static void ngx_http_keygate_admin_import_release(
    ngx_http_keygate_admin_import_t *import);
static ngx_int_t ngx_http_keygate_admin_import_batch(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_import_line(
    ngx_http_keygate_admin_t *admin, ngx_int_t rc, ngx_str_t *line);
static ngx_int_t ngx_http_keygate_admin_import_compare(
    ngx_http_keygate_admin_t *admin);
static void ngx_http_keygate_admin_import_choose(
    ngx_http_keygate_admin_import_t *import,
    ngx_http_keygate_admin_import_entry_t *entry, const json_t *stored);
static ngx_int_t ngx_http_keygate_admin_import_end(
    ngx_http_keygate_admin_t *admin);
static ngx_uint_t ngx_http_keygate_admin_import_rank(const json_t *record);


ngx_int_t
ngx_http_keygate_admin_import(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                         rc;
    ngx_str_t                         dry_run;
    ngx_pool_cleanup_t               *cln;
    ngx_http_keygate_admin_import_t  *import;

    static ngx_str_t    field = ngx_string("dry_run");
    static const char  *names[] = { "dry_run", NULL };

    rc = ngx_http_keygate_admin_args(admin, names, &dry_run);

    if (rc != NGX_OK) {
        return rc;
    }

    if (dry_run.len > 1
        || (dry_run.len && *dry_run.data != '0' && *dry_run.data != '1'))
    {
        return ngx_http_keygate_admin_wrong(admin, &field, "must be 1 or 0");
    }

    cln = ngx_pool_cleanup_add(admin->request->pool,
                               sizeof(ngx_http_keygate_admin_import_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    import = cln->data;
    ngx_memzero(import, sizeof(ngx_http_keygate_admin_import_t));

    cln->handler = ngx_http_keygate_admin_import_cleanup;

    import->dry_run = (dry_run.len && *dry_run.data == '1');
    import->refused = json_array();
    import->changes = json_array();
    import->lines = ngx_http_keygate_admin_lines_create(admin->request);

    if (import->lines == NULL) {
        return NGX_ERROR;
    }

    admin->data = import;

    return ngx_http_keygate_admin_import_batch(admin);
}


static void
ngx_http_keygate_admin_import_cleanup(void *data)
{
    ngx_http_keygate_admin_import_t  *import = data;

    ngx_http_keygate_admin_import_release(import);

    json_decref(import->refused);
    json_decref(import->changes);
}


static void
ngx_http_keygate_admin_import_release(ngx_http_keygate_admin_import_t *import)
{
    while (import->nentries) {
        json_decref(import->entries[--import->nentries].record);
    }
}


static ngx_int_t
ngx_http_keygate_admin_import_batch(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                         rc;
    ngx_str_t                         line;
    ngx_uint_t                        i;
    ngx_http_keygate_admin_import_t  *import;

    import = admin->data;

    ngx_http_keygate_admin_import_release(import);

    if (ngx_http_keygate_admin_turn(admin) != NGX_OK) {
        return NGX_ERROR;
    }

    import->tries = NGX_HTTP_KEYGATE_ADMIN_TRIES;

    for (i = 0; i < NGX_HTTP_KEYGATE_ADMIN_BATCH; i++) {

        rc = ngx_http_keygate_admin_lines_next(import->lines, &line);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_DONE) {
            import->ended = 1;
            break;
        }

        if (ngx_http_keygate_admin_import_line(admin, rc, &line) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_import_read(admin);
}


/* Takes a line into the batch, when it is of this pass. */

static ngx_int_t
ngx_http_keygate_admin_import_line(ngx_http_keygate_admin_t *admin,
    ngx_int_t rc, ngx_str_t *line)
{
    const char                             *why;
    ngx_http_keygate_admin_import_t        *import;
    ngx_http_keygate_admin_import_entry_t  *entry;

    import = admin->data;
    entry = &import->entries[import->nentries];

    ngx_memzero(entry, sizeof(ngx_http_keygate_admin_import_entry_t));

    entry->line = import->lines->number;
    why = "the line is too long";

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_import_parse(admin, line, entry, &why);
    }

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        json_decref(entry->record);

        return ngx_http_keygate_admin_import_refuse(import, entry, why);
    }

    if (import->pass != NGX_HTTP_KEYGATE_ADMIN_CHECK
        && (entry->kind == KG_ZONE_KEY)
           != (import->pass == NGX_HTTP_KEYGATE_ADMIN_KEYS))
    {
        json_decref(entry->record);
        return NGX_OK;
    }

    import->nentries++;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_import_read(ngx_http_keygate_admin_t *admin)
{
    ngx_uint_t                              i;
    ngx_http_keygate_admin_import_t        *import;
    ngx_http_keygate_admin_import_entry_t  *entry;

    import = admin->data;

    for (i = 0; i < import->nentries; i++) {
        entry = &import->entries[i];

        entry->stored = ngx_http_keygate_admin_get(admin,
                                   entry->kind == KG_ZONE_KEY ? "key" : "org",
                                   &entry->name);
        if (entry->stored == NULL) {
            return NGX_ERROR;
        }

        if (entry->kind == KG_ZONE_ORG) {
            continue;
        }

        entry->id = ngx_http_keygate_admin_get(admin, "id", &entry->key_id);
        if (entry->id == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_gather(admin,
                                        ngx_http_keygate_admin_import_compare);
}


static ngx_int_t
ngx_http_keygate_admin_import_compare(ngx_http_keygate_admin_t *admin)
{
    json_t                                 *stored;
    ngx_int_t                               rc;
    ngx_str_t                              *text;
    ngx_uint_t                              i;
    const char                             *why;
    ngx_http_keygate_admin_import_t        *import;
    ngx_http_keygate_admin_import_entry_t  *entry;

    import = admin->data;

    for (i = 0; i < import->nentries; i++) {
        entry = &import->entries[i];
        text = &entry->stored->text;

        /* One that cannot be read lets nobody in and is written anew. */

        stored = text->data ? json_loadb((char *) text->data, text->len, 0,
                                         NULL)
                            : NULL;

        ngx_http_keygate_admin_import_choose(import, entry, stored);

        why = ngx_http_keygate_admin_import_clash(entry, stored);
        rc = NGX_OK;

        if (import->pass == NGX_HTTP_KEYGATE_ADMIN_CHECK) {
            rc = why ? ngx_http_keygate_admin_import_refuse(import, entry, why)
                     : ngx_http_keygate_admin_import_note(import, entry,
                                                          stored);

        } else if (why) {
            rc = ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                               "Line %ui: %s", entry->line,
                                               why);
        }

        json_decref(stored);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (import->pass == NGX_HTTP_KEYGATE_ADMIN_CHECK) {
        return ngx_http_keygate_admin_import_on(admin);
    }

    return ngx_http_keygate_admin_import_index(admin);
}


/* What is to be done with a line in this pass. */

static void
ngx_http_keygate_admin_import_choose(ngx_http_keygate_admin_import_t *import,
    ngx_http_keygate_admin_import_entry_t *entry, const json_t *stored)
{
    entry->creates = (entry->stored->text.data == NULL);
    entry->writes = !json_equal(stored, entry->record);

    if (import->pass == NGX_HTTP_KEYGATE_ADMIN_LOWER
        && ngx_http_keygate_admin_import_rank(entry->record)
           > ngx_http_keygate_admin_import_rank(stored))
    {
        entry->writes = 0;
    }
}


ngx_int_t
ngx_http_keygate_admin_import_on(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_import_t  *import;

    import = admin->data;

    if (import->nrefused >= NGX_HTTP_KEYGATE_ADMIN_REFUSED_MAX) {
        import->ended = 1;
        import->truncated = 1;
    }

    if (!import->ended) {
        return ngx_http_keygate_admin_import_batch(admin);
    }

    if (import->pass == NGX_HTTP_KEYGATE_ADMIN_RAISE) {
        return ngx_http_keygate_admin_import_end(admin);
    }

    if (import->pass == NGX_HTTP_KEYGATE_ADMIN_CHECK) {

        if (import->dry_run) {
            return ngx_http_keygate_admin_import_answer(admin);
        }

        if (import->nrefused) {
            return ngx_http_keygate_admin_import_refused(admin);
        }

        /* From now on what was written counts, not what was to be. */

        import->ncreated = 0;
        import->nchanged = 0;
    }

    import->pass++;
    import->ended = 0;

    ngx_http_keygate_admin_lines_rewind(import->lines);

    return ngx_http_keygate_admin_import_batch(admin);
}


static ngx_int_t
ngx_http_keygate_admin_import_end(ngx_http_keygate_admin_t *admin)
{
    json_t                           *changes;
    ngx_http_keygate_admin_import_t  *import;

    import = admin->data;

    if (!admin->changed) {
        return ngx_http_keygate_admin_import_answer(admin);
    }

    changes = json_pack("{s:I, s:I}",
                        "created", (json_int_t) import->ncreated,
                        "changed", (json_int_t) import->nchanged);

    return ngx_http_keygate_admin_audit(admin, changes,
                                        ngx_http_keygate_admin_import_answer);
}


/* How much access an organisation has; one without a record has none. */

static ngx_uint_t
ngx_http_keygate_admin_import_rank(const json_t *record)
{
    ngx_str_t    text;
    kg_access_t  access;

    text = ngx_http_keygate_admin_member(record, "access");

    if (kg_access_parse(ngx_http_keygate_kg(&text), &access) != KG_OK) {
        return 0;
    }

    switch (access) {

    case KG_ACCESS_TEST:
        return 1;

    case KG_ACCESS_LIVE:
        return 2;

    default: /* KG_ACCESS_NOT_ENABLED, KG_ACCESS_DISABLED */
        return 0;
    }
}

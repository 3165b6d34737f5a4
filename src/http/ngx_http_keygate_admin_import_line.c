
/*
 * The lines of an import: what one must be, and what is said of them.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_admin_import.h"


static ngx_int_t ngx_http_keygate_admin_import_parse_org(
    ngx_http_keygate_admin_t *admin, const json_t *object,
    ngx_http_keygate_admin_import_entry_t *entry, const char **why);
static ngx_int_t ngx_http_keygate_admin_import_parse_key(
    ngx_http_keygate_admin_t *admin, const json_t *object,
    ngx_http_keygate_admin_import_entry_t *entry, const char **why);
static ngx_int_t ngx_http_keygate_admin_import_copy(
    ngx_http_keygate_admin_t *admin, const json_t *object, const char *name,
    ngx_str_t *copy);


ngx_int_t
ngx_http_keygate_admin_import_parse(ngx_http_keygate_admin_t *admin,
    ngx_str_t *line, ngx_http_keygate_admin_import_entry_t *entry,
    const char **why)
{
    json_t     *object;
    ngx_int_t   rc;
    ngx_str_t   type;

    static ngx_str_t  org = ngx_string("org");
    static ngx_str_t  key = ngx_string("key");

    object = json_loadb((char *) line->data, line->len,
                        JSON_REJECT_DUPLICATES, NULL);

    type = ngx_http_keygate_admin_member(object, "type");
    entry->record = json_incref(json_object_get(object, "record"));

    rc = NGX_DECLINED;

    if (!json_is_object(object)) {
        *why = "the line is no JSON object";

    } else if (json_object_size(object) != 3 || entry->record == NULL) {
        *why = "the line does not have the three members of its type";

    } else if (kg_str_eq(ngx_http_keygate_kg(&type),
                         ngx_http_keygate_kg(&org)))
    {
        rc = ngx_http_keygate_admin_import_parse_org(admin, object, entry,
                                                     why);

    } else if (kg_str_eq(ngx_http_keygate_kg(&type),
                         ngx_http_keygate_kg(&key)))
    {
        rc = ngx_http_keygate_admin_import_parse_key(admin, object, entry,
                                                     why);

    } else {
        *why = "\"type\" is neither \"org\" nor \"key\"";
    }

    json_decref(object);

    return rc;
}


static ngx_int_t
ngx_http_keygate_admin_import_parse_org(ngx_http_keygate_admin_t *admin,
    const json_t *object, ngx_http_keygate_admin_import_entry_t *entry,
    const char **why)
{
    entry->kind = KG_ZONE_ORG;

    if (ngx_http_keygate_admin_import_copy(admin, object, "id", &entry->name)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!kg_org_id_valid(ngx_http_keygate_kg(&entry->name))) {
        *why = "\"id\" is not 1 to 64 of A-Z a-z 0-9 _ -";
        return NGX_DECLINED;
    }

    entry->zone_name = entry->name;
    entry->text = ngx_http_keygate_admin_dump(admin->pool, entry->record);

    return ngx_http_keygate_admin_pack(KG_ZONE_ORG, &entry->text, why);
}


static ngx_int_t
ngx_http_keygate_admin_import_parse_key(ngx_http_keygate_admin_t *admin,
    const json_t *object, ngx_http_keygate_admin_import_entry_t *entry,
    const char **why)
{
    ngx_int_t  rc;
    ngx_str_t  digest;

    entry->kind = KG_ZONE_KEY;

    digest = ngx_http_keygate_admin_member(object, "digest");

    rc = ngx_http_keygate_admin_unhex(admin, &digest, &entry->zone_name);

    if (rc != NGX_OK) {
        *why = "\"digest\" is not 64 hex digits";
        return rc;
    }

    entry->name.len = KG_DIGEST_HEX;
    entry->name.data = ngx_pnalloc(admin->pool, KG_DIGEST_HEX);
    entry->text = ngx_http_keygate_admin_dump(admin->pool, entry->record);

    if (entry->name.data == NULL
        || ngx_http_keygate_admin_import_copy(admin, entry->record, "id",
                                              &entry->key_id)
           != NGX_OK
        || ngx_http_keygate_admin_import_copy(admin, entry->record, "org",
                                              &entry->org)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    kg_hex(entry->name.data, entry->zone_name.data, KG_DIGEST_LEN);

    return ngx_http_keygate_admin_pack(KG_ZONE_KEY, &entry->text, why);
}


static ngx_int_t
ngx_http_keygate_admin_import_copy(ngx_http_keygate_admin_t *admin,
    const json_t *object, const char *name, ngx_str_t *copy)
{
    ngx_str_t  text;

    text = ngx_http_keygate_admin_member(object, name);

    copy->len = text.len;
    copy->data = ngx_pnalloc(admin->pool, text.len + 1);

    if (copy->data == NULL) {
        return NGX_ERROR;
    }

    if (text.len) {
        ngx_memcpy(copy->data, text.data, text.len);
    }

    return NGX_OK;
}


/*
 * A token says itself what mode it is of, and an id is in logs and bills: what
 * they lead to stays one key of one organisation.
 */

const char *
ngx_http_keygate_admin_import_clash(
    ngx_http_keygate_admin_import_entry_t *entry, const json_t *stored)
{
    ngx_str_t  *leads;

    if (entry->kind == KG_ZONE_ORG) {
        return NULL;
    }

    leads = &entry->id->text;

    if (leads->data && !kg_str_eq(ngx_http_keygate_kg(leads),
                                  ngx_http_keygate_kg(&entry->name)))
    {
        return "its id is another key's";
    }

    if (stored
        && (!json_equal(json_object_get(stored, "id"),
                        json_object_get(entry->record, "id"))
            || !json_equal(json_object_get(stored, "org"),
                           json_object_get(entry->record, "org"))
            || !json_equal(json_object_get(stored, "mode"),
                           json_object_get(entry->record, "mode"))))
    {
        return "the key that is stored has another id, organisation or mode";
    }

    return NULL;
}


ngx_int_t
ngx_http_keygate_admin_import_refuse(ngx_http_keygate_admin_import_t *import,
    ngx_http_keygate_admin_import_entry_t *entry, const char *why)
{
    import->nrefused++;

    if (json_array_size(import->refused)
        == NGX_HTTP_KEYGATE_ADMIN_REFUSED_MAX)
    {
        return NGX_OK;
    }

    return json_array_append_new(import->refused,
                                 json_pack("{s:I, s:s}",
                                           "line", (json_int_t) entry->line,
                                           "reason", why))
           == 0 ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_import_note(ngx_http_keygate_admin_import_t *import,
    ngx_http_keygate_admin_import_entry_t *entry, const json_t *stored)
{
    json_t     *line;
    ngx_str_t  *id;

    import->nvalid++;

    if (!entry->writes) {
        return NGX_OK;
    }

    if (entry->creates) {
        import->ncreated++;
    } else {
        import->nchanged++;
    }

    if (json_array_size(import->changes)
        == NGX_HTTP_KEYGATE_ADMIN_CHANGES_MAX)
    {
        import->truncated = 1;
        return NGX_OK;
    }

    id = (entry->kind == KG_ZONE_KEY) ? &entry->key_id : &entry->name;

    line = json_pack("{s:I, s:s, s:s%, s:s, s:o}",
                     "line", (json_int_t) entry->line,
                     "type", entry->kind == KG_ZONE_KEY ? "key" : "org",
                     "id", id->data, id->len,
                     "does", entry->creates ? "create" : "change",
                     "changes", ngx_http_keygate_admin_changes(stored,
                                                              entry->record));

    return json_array_append_new(import->changes, line) == 0 ? NGX_OK
                                                             : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_import_refused(ngx_http_keygate_admin_t *admin)
{
    json_t                           *object;
    ngx_str_t                         details;
    ngx_http_keygate_admin_import_t  *import;

    import = admin->data;

    object = json_pack("{s:I, s:O}",
                       "refused", (json_int_t) import->nrefused,
                       "refusedLines", import->refused);

    details = ngx_http_keygate_admin_dump(admin->request->pool, object);
    json_decref(object);

    if (details.data == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&admin->ctx->message,
                "Some lines are refused, nothing was written");

    return ngx_http_keygate_refuse(admin->request, admin->ctx,
                                   KG_ERR_BAD_REQUEST, &details);
}


ngx_int_t
ngx_http_keygate_admin_import_answer(ngx_http_keygate_admin_t *admin)
{
    json_int_t                        unchanged;
    ngx_http_keygate_admin_import_t  *import;

    import = admin->data;

    unchanged = (json_int_t) import->nvalid - import->ncreated
                - import->nchanged;

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                         json_pack("{s:b, s:I, s:I, s:I, s:I, s:O, s:O, s:b}",
                             "dryRun", (int) import->dry_run,
                             "created", (json_int_t) import->ncreated,
                             "changed", (json_int_t) import->nchanged,
                             "unchanged", ngx_max(unchanged, 0),
                             "refused", (json_int_t) import->nrefused,
                             "lines", import->changes,
                             "refusedLines", import->refused,
                             "truncated", (int) import->truncated));
}


/*
 * What an import writes of a batch: first what leads to the records, then the
 * records, each in the place of what was read.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_admin_import.h"


static ngx_int_t ngx_http_keygate_admin_import_list_org(
    ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_import_entry_t *entry);
static ngx_int_t ngx_http_keygate_admin_import_list_key(
    ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_import_entry_t *entry);
static ngx_int_t ngx_http_keygate_admin_import_write(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_import_written(
    ngx_http_keygate_admin_t *admin);
static ngx_uint_t ngx_http_keygate_admin_import_raced(
    ngx_http_keygate_admin_import_entry_t *entry);


ngx_int_t
ngx_http_keygate_admin_import_index(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                               rc;
    ngx_uint_t                              i;
    ngx_http_keygate_admin_import_t        *import;
    ngx_http_keygate_admin_import_entry_t  *entry;

    import = admin->data;

    for (i = 0; i < import->nentries; i++) {
        entry = &import->entries[i];

        rc = (entry->kind == KG_ZONE_KEY)
             ? ngx_http_keygate_admin_import_list_key(admin, entry)
             : ngx_http_keygate_admin_import_list_org(admin, entry);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_import_write);
}


static ngx_int_t
ngx_http_keygate_admin_import_list_org(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_import_entry_t *entry)
{
    ngx_str_t  argv[4];

    ngx_str_set(&argv[0], "ZADD");
    argv[1] = ngx_http_keygate_admin_index(admin, "orgs");
    ngx_str_set(&argv[2], "0");
    argv[3] = entry->name;

    return ngx_http_keygate_admin_command(admin, argv, 4, &argv[1],
                                          REDIS_REPLY_INTEGER)
           ? NGX_OK : NGX_ERROR;
}


/* Where a key is in the list already it keeps its place. */

static ngx_int_t
ngx_http_keygate_admin_import_list_key(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_import_entry_t *entry)
{
    u_char     score[NGX_INT64_LEN];
    int64_t    created;
    ngx_str_t  argv[5], text;

    ngx_str_set(&argv[0], "SET");
    argv[1] = ngx_http_keygate_admin_name(admin, "id", &entry->key_id);
    argv[2] = entry->name;
    ngx_str_set(&argv[3], "NX");

    entry->listed = ngx_http_keygate_admin_command(admin, argv, 4,
                                                   &entry->key_id,
                                                   REDIS_REPLY_STATUS);
    if (entry->listed == NULL) {
        return NGX_ERROR;
    }

    text = ngx_http_keygate_admin_member(entry->record, "createdAt");

    if (kg_time_parse(ngx_http_keygate_kg(&text), &created) != KG_OK) {
        created = ngx_time();
    }

    ngx_str_set(&argv[0], "ZADD");
    argv[1] = ngx_http_keygate_admin_name(admin, "keys", &entry->org);
    ngx_str_set(&argv[2], "NX");
    argv[3].data = score;
    argv[3].len = ngx_sprintf(score, "%L", created * 1000) - score;
    argv[4] = entry->key_id;

    return ngx_http_keygate_admin_command(admin, argv, 5, &entry->org,
                                          REDIS_REPLY_INTEGER)
           ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_admin_import_write(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t                               argv[3];
    ngx_uint_t                              i;
    kg_redis_cmd_t                          cmd;
    ngx_http_keygate_admin_import_t        *import;
    ngx_http_keygate_admin_import_entry_t  *entry;

    import = admin->data;

    for (i = 0; i < import->nentries; i++) {
        entry = &import->entries[i];

        if (!entry->writes || ngx_http_keygate_admin_import_raced(entry)) {
            continue;
        }

        argv[0] = ngx_http_keygate_admin_name(admin,
                                   entry->kind == KG_ZONE_KEY ? "key" : "org",
                                   &entry->name);
        argv[2] = entry->text;
        ngx_str_set(&argv[1], "");

        if (!entry->creates) {
            argv[1] = entry->stored->text;
        }

        if (argv[0].data == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

        cmd.script = KG_SCRIPT_CAS;
        cmd.nkeys = 1;
        cmd.argc = 3;
        cmd.argv = argv;
        cmd.slot = entry->name;

        entry->written = ngx_http_keygate_admin_part(admin, &cmd,
                                                     REDIS_REPLY_INTEGER);
        if (entry->written == NULL) {
            return NGX_ERROR;
        }

        entry->written->writes = 1;
        entry->written->kind = entry->kind;
        entry->written->zone_name = entry->zone_name;
    }

    return ngx_http_keygate_admin_gather(admin,
                                        ngx_http_keygate_admin_import_written);
}


static ngx_int_t
ngx_http_keygate_admin_import_written(ngx_http_keygate_admin_t *admin)
{
    ngx_uint_t                              i, again;
    ngx_http_keygate_admin_import_t        *import;
    ngx_http_keygate_admin_import_entry_t  *entry;

    import = admin->data;
    again = 0;

    for (i = 0; i < import->nentries; i++) {
        entry = &import->entries[i];

        if (!entry->writes) {
            continue;
        }

        if (ngx_http_keygate_admin_import_raced(entry)
            || entry->written->integer == 0)
        {
            again = 1;
            continue;
        }

        admin->changed = 1;

        if (entry->creates) {
            import->ncreated++;
        } else {
            import->nchanged++;
        }
    }

    if (!again) {
        return ngx_http_keygate_admin_import_on(admin);
    }

    if (--import->tries == 0) {
        return ngx_http_keygate_admin_outrun(admin);
    }

    return ngx_http_keygate_admin_import_read(admin);
}


/* The id was nobody's when it was read, and then was not to be had. */

static ngx_uint_t
ngx_http_keygate_admin_import_raced(
    ngx_http_keygate_admin_import_entry_t *entry)
{
    return entry->kind == KG_ZONE_KEY
           && entry->id->text.data == NULL
           && entry->listed->integer == 0;
}

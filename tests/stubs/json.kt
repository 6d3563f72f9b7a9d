// The part of org.json that the sample uses, working: Android brings the real one, a plain JVM has
// none.
package org.json

class JSONObject internal constructor(private val fields: Map<String, Any?>) {
    constructor(text: String) : this(Parser(text).whole())

    fun has(key: String) = key in fields
    fun getString(key: String) = fields.getValue(key) as String
    fun getBoolean(key: String) = fields.getValue(key) as Boolean
    fun getDouble(key: String) = (fields.getValue(key) as Number).toDouble()
    fun getInt(key: String) = (fields.getValue(key) as Number).toInt()
    fun getJSONObject(key: String) = fields.getValue(key) as JSONObject
    fun getJSONArray(key: String) = fields.getValue(key) as JSONArray
}

class JSONArray internal constructor(private val items: List<Any?>) {
    fun length() = items.size
    fun getString(index: Int) = items[index] as String
    fun getDouble(index: Int) = (items[index] as Number).toDouble()
    fun getInt(index: Int) = (items[index] as Number).toInt()
    fun getJSONObject(index: Int) = items[index] as JSONObject
}

internal class Parser(private val text: String) {
    private var at = 0

    @Suppress("UNCHECKED_CAST")
    fun whole(): Map<String, Any?> {
        skip()
        return fields()
    }

    private fun skip() { while (at < text.length && text[at].isWhitespace()) at++ }

    private fun take(c: Char) { skip(); check(text[at] == c) { "expected $c at $at" }; at++ }

    private fun value(): Any? {
        skip()
        return when (text[at]) {
            '{' -> JSONObject(fields())
            '[' -> JSONArray(items())
            '"' -> string()
            't' -> { at += 4; true }
            'f' -> { at += 5; false }
            'n' -> { at += 4; null }
            else -> number()
        }
    }

    private fun fields(): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        take('{')
        skip()
        while (text[at] != '}') {
            skip()
            val key = string()
            take(':')
            found[key] = value()
            skip()
            if (text[at] == ',') at++
            skip()
        }
        at++
        return found
    }

    private fun items(): List<Any?> {
        val found = ArrayList<Any?>()
        take('[')
        skip()
        while (text[at] != ']') {
            found += value()
            skip()
            if (text[at] == ',') at++
            skip()
        }
        at++
        return found
    }

    private fun string(): String {
        val made = StringBuilder()
        at++
        while (text[at] != '"') {
            if (text[at] == '\\') {
                at++
                when (val c = text[at]) {
                    'n' -> made.append('\n')
                    't' -> made.append('\t')
                    'u' -> {
                        made.append(text.substring(at + 1, at + 5).toInt(16).toChar())
                        at += 4
                    }
                    else -> made.append(c)
                }
            } else {
                made.append(text[at])
            }
            at++
        }
        at++
        return made.toString()
    }

    private fun number(): Number {
        val start = at
        while (at < text.length && (text[at].isLetterOrDigit() || text[at] in "+-.")) at++
        return text.substring(start, at).let { it.toIntOrNull() ?: it.toDouble() }
    }
}

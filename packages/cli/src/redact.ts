/**
 * The last line of defence for secrets in text that is about to be shown: messages of option parsers quote what they were given,
 * and that may be a database URL. The library never puts secrets into messages; this is for all that is not the library.
 */
export function redact(text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]*:\/\/[^\s:@/'"]*):[^\s'"]*@/gi, '$1:***@')
    .replace(/([?&](?:password|sslpassword|passphrase)=)[^&\s'"]*/gi, '$1***');
}
